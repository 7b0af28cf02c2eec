import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kd_cli.artifacts import Artifact, Store, digest_of, open_artifact
from kd_cli.errors import ArtifactError

IDENTITY = {"stage": "teacher", "seed": 0}
FILES = ("config.yaml", "history.jsonl", "model.safetensors")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")


def fill(folder: Path, value: float = 1.0, note: str = "") -> dict[str, object]:
    save_file({"weight": torch.full((3,), value)}, folder / "model.safetensors")
    (folder / "config.yaml").write_text(f"note: '{note}'\n")
    (folder / "history.jsonl").write_text('{"epoch": 1}\n')
    return {"environment": {"device": "cpu"}}


def test_what_is_written_is_found_by_its_identity(store):
    assert store.find("teachers", IDENTITY) is None
    written = store.write("teachers", IDENTITY, fill)
    found = store.find("teachers", dict(reversed(IDENTITY.items())))
    assert found == written
    assert written.folder == store.root / "teachers" / digest_of(IDENTITY)[:16]
    assert sorted(path.name for path in written.folder.iterdir()) == sorted([*FILES, "manifest.json"])
    assert store.find("teachers", IDENTITY | {"seed": 1}) is None
    assert store.find("students", IDENTITY) is None


def test_the_manifest_holds_identity_files_notes_and_kind(store):
    manifest = store.write("teachers", IDENTITY, fill).manifest
    assert manifest["kind"] == "teachers"
    assert manifest["identity"] == IDENTITY
    assert manifest["environment"] == {"device": "cpu"}
    assert sorted(manifest["files"]) == sorted(FILES)
    assert all(set(entry) == {"bytes", "sha256"} for entry in manifest["files"].values())


def test_the_content_digest_is_that_of_the_tensors_alone(store):
    contents = [
        store.write("teachers", {"k": k}, lambda folder, value=value, note=note: fill(folder, value, note)).content
        for k, (value, note) in enumerate([(1.0, "a"), (1.0, "b"), (2.0, "a")])
    ]
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_what_was_not_finished(store, error):
    def half(folder: Path) -> dict[str, object]:
        fill(folder)
        raise error("stopped")

    with pytest.raises(error, match="stopped"):
        store.write("teachers", IDENTITY, half)
    assert list((store.root / "teachers").iterdir()) == []
    assert store.find("teachers", IDENTITY) is None


def test_what_is_being_written_is_not_found(store):
    def look(folder: Path) -> dict[str, object]:
        assert store.find("teachers", IDENTITY) is None
        return fill(folder)

    store.write("teachers", IDENTITY, look)


@pytest.mark.parametrize("own", [1.0, 2.0])
def test_a_second_writer_keeps_what_the_first_has_written(store, own):
    def late(folder: Path) -> dict[str, object]:
        store.write("teachers", IDENTITY, lambda first: fill(first, value=7.0))
        return fill(folder, value=own)

    kept = store.write("teachers", IDENTITY, late)
    assert kept.content == store.write("teachers", {"k": 1}, lambda folder: fill(folder, value=7.0)).content
    assert len(list((store.root / "teachers").iterdir())) == 2  # the two artifacts and no working folder


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\n"),
        lambda path: path.write_bytes(path.read_bytes()[:-2] + b"?" + path.read_bytes()[-1:]),
        Path.unlink,
    ],
    ids=["truncated", "longer", "altered", "missing"],
)
def test_a_damaged_file_is_refused_by_name(store, name, harm):
    folder = store.write("teachers", IDENTITY, fill).folder
    harm(folder / name)
    message = f"{folder / name} is damaged: it differs from its manifest. Remove {folder}; it is then made anew."
    for read in (lambda: open_artifact(folder), lambda: store.find("teachers", IDENTITY)):
        with pytest.raises(ArtifactError) as refusal:
            read()
        assert str(refusal.value) == message


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"files": 3}', b'{"files": {"a": {}}}', b'{"files": {"a": 1}}', b"\xff\xfe"],
)
def test_a_damaged_manifest_is_refused_by_name(store, content):
    folder = store.write("teachers", IDENTITY, fill).folder
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError) as refusal:
        open_artifact(folder)
    assert str(refusal.value).startswith(f"{folder / 'manifest.json'} is damaged (")
    assert str(refusal.value).endswith(f"). Remove {folder}; it is then made anew.")


@pytest.mark.parametrize("make", [Path.mkdir, lambda folder: None], ids=["empty folder", "no folder"])
def test_a_folder_that_is_no_artifact_is_refused(tmp_path, make):
    folder = tmp_path / "folder"
    make(folder)
    with pytest.raises(ArtifactError) as refusal:
        open_artifact(folder)
    assert str(refusal.value) == f"{folder} is not an artifact of kd: it has no manifest.json."


@pytest.mark.parametrize("name", ["../outside.safetensors", "sub/inside", "/etc/hostname"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(store, name):
    folder = store.write("teachers", IDENTITY, fill).folder
    (folder.parent / "outside.safetensors").write_bytes(b"x")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError) as refusal:
        open_artifact(folder)
    assert str(refusal.value) == (
        f"{folder / 'manifest.json'} names {name!r}, which is not a plain file of its folder."
    )


def test_a_link_is_refused_even_to_the_same_bytes(store):
    folder = store.write("teachers", IDENTITY, fill).folder
    outside = folder.parent / "outside"
    (folder / "model.safetensors").rename(outside)
    (folder / "model.safetensors").symlink_to(outside)
    with pytest.raises(ArtifactError, match=r"names 'model\.safetensors', which is not a plain file of its folder"):
        open_artifact(folder)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": None}, {}, False),
        ({"a": "é"}, {"a": "e"}, False),
    ],
)
def test_a_digest_follows_content_and_not_the_order_of_keys(left, right, equal):
    assert (digest_of(left) == digest_of(right)) is equal


def test_others_may_read_an_artifact(store):
    assert store.write("teachers", IDENTITY, fill).folder.stat().st_mode & 0o777 == 0o755


def test_artifacts_hold_no_pickle(store):
    artifact: Artifact = store.write("teachers", IDENTITY, fill)
    assert all(path.suffix in (".safetensors", ".yaml", ".json", ".jsonl") for path in artifact.folder.iterdir())
