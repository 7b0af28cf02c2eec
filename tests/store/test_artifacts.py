"""What is stored, and how it is found again."""

import os
import re
from pathlib import Path

import pytest
import torch
from filled import FILES, IDENTITY, fill
from safetensors import SafetensorError
from safetensors.torch import save_file

from kd_cli.errors import ConfigError
from kd_cli.files.digests import id_of
from kd_cli.store.artifacts import Artifact, whole_file


def test_what_is_written_is_found_by_its_identity(store):
    assert store.find("teachers", IDENTITY) is None
    written = store.write("teachers", IDENTITY, fill)
    found = store.find("teachers", dict(reversed(IDENTITY.items())))
    assert found == written
    assert written.folder == store.root / "teachers" / id_of(IDENTITY)
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


def test_what_is_stored_is_on_the_disk_before_it_has_its_name(store, monkeypatch):
    """A power cut leaves nothing half written: each file, then its folder, then the folder above."""
    fsync, rename, done = os.fsync, Path.rename, []

    def synced(handle):
        done.append(os.fstat(handle).st_ino)
        fsync(handle)

    def renamed(path, target):
        if path.name.endswith(".partial"):
            done.append("renamed")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)

    def fill(folder):
        (folder / "a.txt").write_text("a")
        with whole_file(folder / "b.txt") as working:
            working.write_text("b")
            done.clear()
        assert done == [(folder / "b.txt").stat().st_ino]
        return {}

    folder = store.write("teachers", {"seed": 1}, fill).folder
    assert {path.stat().st_ino for path in [folder, *folder.iterdir()]} <= set(done[: done.index("renamed")])
    assert done[done.index("renamed") + 1 :] == [folder.parent.stat().st_ino]


def python_to_a_full_disk(folder: Path) -> dict[str, object]:
    with whole_file(folder / "history.jsonl"), open("/dev/full", "w") as full:
        full.write("x")
    return {}


def safetensors_to_a_full_disk(folder: Path) -> dict[str, object]:
    with whole_file(folder / "model.safetensors"):
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


def test_others_may_read_an_artifact(store):
    assert store.write("teachers", IDENTITY, fill).folder.stat().st_mode & 0o777 == 0o755


def test_artifacts_hold_no_pickle(store):
    artifact: Artifact = store.write("teachers", IDENTITY, fill)
    assert all(path.suffix in (".safetensors", ".yaml", ".json", ".jsonl") for path in artifact.folder.iterdir())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_everything_has_the_mode_that_the_umask_gives(store, umask, mode):
    def continued(folder: Path) -> dict[str, object]:
        with whole_file(folder / "logits-00000.safetensors") as working:
            save_file({"logits": torch.zeros(2)}, working)
        assert (folder / "logits-00000.safetensors").stat().st_mode & 0o777 == mode
        return fill(folder)

    before = os.umask(umask)
    try:
        artifact = store.write("teachers", IDENTITY, continued)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in artifact.folder.iterdir()}
    assert modes == dict.fromkeys([*FILES, "logits-00000.safetensors", "manifest.json"], mode)
    assert {path.stat().st_mode & 0o777 for path in (store.root / ".locks").iterdir()} == {mode}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(1, 1.0, True), ([0, 2], (0.0, 2.0), True), (-0.0, 0, True), (1e22, 10**22, True),
     (1, True, False), (1, "1", False), (0.1, 0, False), (2**53 + 1, float(2**53), False)],
)  # fmt: skip
def test_numbers_that_are_equal_are_one_identity(store, one, other, same):
    made = store.write("teachers", {"train": {"clip": one}}, fill)
    found = store.find("teachers", {"train": {"clip": other}})
    assert found == (made if same else None)
