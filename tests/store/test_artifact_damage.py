"""Artifacts that are not what was stored: refused by name, moved aside where asked for."""

import errno
import json
import os
import random
from pathlib import Path
from unittest import mock

import pytest
from filled import FILES, ID, IDENTITY, fill, odd
from running import harm, seal

from kd_cli.errors import ArtifactError
from kd_cli.files.digests import id_of
from kd_cli.store.artifacts import REBUILD, Store, open_artifact, read_artifact


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
    folder.rename(folder.with_name(id_of(other)))
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


FILE_OR_SO = ("a link that leads nowhere", "a file", "neither file nor folder")
ODD = {
    f"teachers/{ID}": FILE_OR_SO,
    f"teachers/.{ID}.partial": FILE_OR_SO,
    "teachers": FILE_OR_SO,
    ".locks": FILE_OR_SO,
    f".locks/teachers-{ID}.lock": ("a link that leads nowhere", "a link", "a folder", "neither file nor folder"),
}


@pytest.mark.parametrize(("name", "what"), [(name, what) for name, of in ODD.items() for what in of])
def test_what_stands_in_the_way_is_named_and_moved_aside_where_asked_for(store, name, what):
    odd(store.root / name, what)
    with pytest.raises(ArtifactError) as refusal:
        store.write("teachers", IDENTITY, fill)
    assert str(refusal.value).startswith(f"{store.root / name} must be a f")
    assert f" of kd, and is {what}. " in str(refusal.value)
    assert "rebuild=true" in str(refusal.value)
    made = Store(store.root, rebuild=True).write("teachers", IDENTITY, fill)
    assert store.find("teachers", IDENTITY) == made
    aside = (store.root / name).with_name(f"{Path(name).name}.damaged-1")
    assert os.path.lexists(aside), "what is somebody's is kept"


@pytest.mark.parametrize(("where", "of"), [("manifest.json", os), ("model.safetensors", Path)])
def test_what_cannot_be_read_is_not_called_damaged_and_not_moved_aside(store: Store, where: str, of: object) -> None:
    artifact, before = store.write("teachers", IDENTITY, fill), of.open  # type: ignore[attr-defined]

    def refuse(path, *rest, **more):  # type: ignore[no-untyped-def]
        if Path(path).name == where:
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return before(path, *rest, **more)

    eager = Store(store.root, rebuild=True)
    with mock.patch.object(of, "open", refuse), pytest.raises(ArtifactError) as refusal:
        eager.find("teachers", IDENTITY)
    assert f"{where} cannot be read: Too many open files; `ulimit -n 4096` allows more." in str(refusal.value)
    assert "damaged" not in str(refusal.value)
    assert eager.find("teachers", IDENTITY) == artifact
