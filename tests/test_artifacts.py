import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from running import harm, seal
from safetensors import SafetensorError
from safetensors.torch import save_file

from kd_cli import artifacts
from kd_cli.artifacts import REBUILD, Artifact, Store, open_artifact, read_artifact, whole
from kd_cli.digests import digest_of
from kd_cli.errors import ArtifactError, ConfigError

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


def test_a_second_writer_waits_says_for_whom_and_takes_what_the_first_has_made(store, caplog):
    caplog.set_level("INFO", logger="kd")
    started, waiting = threading.Event(), threading.Event()
    caplog.handler.addFilter(lambda record: waiting.set() or True)

    def slow(folder: Path) -> dict[str, object]:
        started.set()
        assert waiting.wait(20)
        return fill(folder, value=7.0)

    with ThreadPoolExecutor(1) as other:
        first = other.submit(store.write, "teachers", IDENTITY, slow)
        assert started.wait(20)
        second = store.write("teachers", IDENTITY, lambda folder: pytest.fail("made twice"))
    assert second == first.result()
    name = f"teachers/{second.folder.name}"
    maker = f"process {os.getpid()} on {socket.gethostname()}"
    assert [record.getMessage() for record in caplog.records] == [f"{name} is being made by {maker}: waiting for it"]
    assert list((store.root / "teachers").iterdir()) == [second.folder]


DIES = """
import os, signal, sys
from pathlib import Path
from kd_cli.artifacts import Store

def fill(folder):
    for name in sys.argv[2:]:
        (folder / name).write_text("1")
    os.kill(os.getpid(), signal.SIGKILL)

Store(Path(sys.argv[1])).write("teachers", {"stage": "teacher", "seed": 0}, fill)
"""


@pytest.mark.parametrize(
    ("left", "found"),
    [(["history.jsonl", "checkpoint.json"], ["checkpoint.json", "history.jsonl"]), (["history.jsonl"], [])],
    ids=["can be continued", "cannot"],
)
def test_a_killed_writer_blocks_nobody_and_leaves_its_checkpoint_to_the_next(store, left, found):
    killed = subprocess.run([sys.executable, "-c", DIES, str(store.root), *left])
    assert killed.returncode == -signal.SIGKILL
    assert store.find("teachers", IDENTITY) is None

    def go_on(folder: Path) -> dict[str, object]:
        assert sorted(path.name for path in folder.iterdir()) == found
        return fill(folder)

    artifact = store.write("teachers", IDENTITY, go_on)
    assert sorted(artifact.manifest["files"]) == sorted(FILES)
    assert sorted(path.name for path in artifact.folder.iterdir()) == sorted([*FILES, "manifest.json"])
    assert list((store.root / "teachers").iterdir()) == [artifact.folder]


def test_what_can_be_continued_outlives_a_failure_in_the_last_steps(store):
    def unspeakable(folder: Path) -> dict[str, object]:
        (folder / "checkpoint.json").write_text("3")
        return {"environment": object()}  # no manifest can say this

    with pytest.raises(TypeError):
        store.write("teachers", IDENTITY, unspeakable)
    (unfinished,) = (store.root / "teachers").iterdir()
    assert (unfinished / "checkpoint.json").read_text() == "3"


def test_a_manifest_that_an_attempt_left_unfinished_is_not_listed_in_the_next_one(store, monkeypatch):
    def continued(folder: Path) -> dict[str, object]:
        (folder / "checkpoint.json").write_text("3")
        return fill(folder)

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "sync", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.write("teachers", IDENTITY, continued)
    (unfinished,) = (store.root / "teachers").iterdir()
    assert (unfinished / "manifest.json").exists()
    assert sorted(store.write("teachers", IDENTITY, continued).manifest["files"]) == sorted(FILES)
    assert store.find("teachers", IDENTITY) is not None


def test_what_can_be_continued_outlives_an_interruption(store):
    def half(folder: Path) -> dict[str, object]:
        (folder / "checkpoint.json").write_text("3")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write("teachers", IDENTITY, half)
    assert store.find("teachers", IDENTITY) is None
    seen = []

    def rest(folder: Path) -> dict[str, object]:
        seen.append((folder / "checkpoint.json").read_text())
        return fill(folder)

    assert "checkpoint.json" not in store.write("teachers", IDENTITY, rest).manifest["files"]
    assert seen == ["3"]


def test_a_file_written_whole_has_its_name_only_when_complete(tmp_path):
    path = tmp_path / "logits-00000.safetensors"

    def half() -> None:
        with whole(path) as working:
            working.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert list(tmp_path.iterdir()) == []
    with whole(path) as working:
        working.write_text("all of it")
        assert not path.exists()
        assert working.name.startswith("checkpoint.")
    assert (list(tmp_path.iterdir()), path.read_text()) == ([path], "all of it")


def python_to_a_full_disk(folder: Path) -> dict[str, object]:
    with whole(folder / "history.jsonl"), open("/dev/full", "w") as full:
        full.write("x")
    return {}


def safetensors_to_a_full_disk(folder: Path) -> dict[str, object]:
    with whole(folder / "model.safetensors"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("full", [python_to_a_full_disk, safetensors_to_a_full_disk])
def test_a_full_disk_ends_in_one_message(store, full):
    with pytest.raises(ConfigError) as refusal:
        store.write("teachers", IDENTITY, full)
    assert re.fullmatch(
        f"output_dir must be a folder with room, got '{store.root}/teachers/.*'. "
        "Its disk is full. Make room there: the same command then goes on.",
        str(refusal.value),
    )
    assert list((store.root / "teachers").iterdir()) == []


def test_content_is_verified_apart_from_the_manifest(store):
    folder = store.write("teachers", IDENTITY, fill).folder
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"?" + path.read_bytes()[-1:])
    assert read_artifact(folder).folder == folder
    with pytest.raises(ArtifactError, match="is damaged: it differs from its manifest"):
        open_artifact(folder)


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
    message = f"{folder / name} is damaged: it differs from its manifest. {REBUILD}"
    for read in (lambda: open_artifact(folder), lambda: store.find("teachers", IDENTITY)):
        with pytest.raises(ArtifactError) as refusal:
            read()
        assert str(refusal.value) == message


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"files": {}}',
        b'{"files": {"a": {"bytes": Infinity}}}',
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"files": 3}',
        b'{"files": {"a": {}}}',
        b'{"files": {"a": 1}}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_manifest_is_refused_by_name(store, content):
    folder = store.write("teachers", IDENTITY, fill).folder
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError) as refusal:
        open_artifact(folder)
    assert str(refusal.value).startswith(f"{folder / 'manifest.json'} is damaged (")
    assert str(refusal.value).endswith(f"). {REBUILD}")


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
    seal(folder, manifest)
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


def test_what_is_damaged_is_moved_aside_and_made_anew_where_asked_for(store, caplog):
    caplog.set_level("INFO", logger="kd")
    asked = Store(store.root, rebuild=True)
    for number in (1, 2):
        path = store.write("teachers", IDENTITY, fill).folder / "config.yaml"
        path.write_text("altered")
        with pytest.raises(ArtifactError, match="rebuild=true"):
            store.write("teachers", IDENTITY, fill)
        assert asked.find("teachers", IDENTITY) is None
        made = asked.write("teachers", IDENTITY, fill)
        assert store.find("teachers", IDENTITY) == made
        aside = path.parent.with_name(f"{path.parent.name}.damaged-{number}")
        assert (aside / "config.yaml").read_text() == "altered"
        assert caplog.messages[-1] == f"moved aside to {aside.name}, made anew"
    assert asked.write("teachers", IDENTITY, lambda folder: pytest.fail("made twice")) == made


def test_an_artifact_under_anothers_name_is_not_taken(store):
    folder = store.write("teachers", IDENTITY, fill).folder
    other = {"stage": "teacher", "seed": 1}
    folder.rename(folder.with_name(digest_of(other)[:16]))
    with pytest.raises(ArtifactError, match=r"is that of another artifact\. .*rebuild=true"):
        store.find("teachers", other)


def test_no_byte_of_an_artifact_changes_unnoticed(store):
    """A flipped byte, a cut tail or a lost file, anywhere: always refused by name, with what to do."""
    draw = random.Random(0)
    folder = store.write("teachers", IDENTITY, fill).folder
    whole = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    for trial in range(60):
        path = list(whole)[trial % len(whole)]
        harm(path, draw)
        with pytest.raises(
            ArtifactError, match=r"manifest\.json" if path.name == "manifest.json" else path.name
        ) as refusal:
            store.find("teachers", IDENTITY)
        assert "rebuild=true" in str(refusal.value)
        path.write_bytes(whole[path])
    assert store.find("teachers", IDENTITY) is not None


def test_others_may_read_an_artifact(store):
    assert store.write("teachers", IDENTITY, fill).folder.stat().st_mode & 0o777 == 0o755


def test_artifacts_hold_no_pickle(store):
    artifact: Artifact = store.write("teachers", IDENTITY, fill)
    assert all(path.suffix in (".safetensors", ".yaml", ".json", ".jsonl") for path in artifact.folder.iterdir())
