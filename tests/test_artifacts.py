import errno
import fcntl
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
from unittest import mock

import pytest
import torch
from running import harm, seal
from safetensors import SafetensorError
from safetensors.torch import save_file

from kd_cli.errors import ArtifactError, ConfigError
from kd_cli.files import plain_file
from kd_cli.files.digests import digest_of, id_of
from kd_cli.store import artifacts
from kd_cli.store.artifacts import REBUILD, Artifact, Store, open_artifact, read_artifact, whole

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
from kd_cli.store.artifacts import Store

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
        with whole(folder / "b.txt") as working:
            working.write_text("b")
            done.clear()
        assert done == [(folder / "b.txt").stat().st_ino]
        return {}

    folder = store.write("teachers", {"seed": 1}, fill).folder
    assert {path.stat().st_ino for path in [folder, *folder.iterdir()]} <= set(done[: done.index("renamed")])
    assert done[done.index("renamed") + 1 :] == [folder.parent.stat().st_ino]


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


def test_others_may_read_an_artifact(store):
    assert store.write("teachers", IDENTITY, fill).folder.stat().st_mode & 0o777 == 0o755


def test_artifacts_hold_no_pickle(store):
    artifact: Artifact = store.write("teachers", IDENTITY, fill)
    assert all(path.suffix in (".safetensors", ".yaml", ".json", ".jsonl") for path in artifact.folder.iterdir())


def odd(path: Path, what: str) -> None:
    """Puts something where it does not belong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "a link that leads nowhere":
        path.symlink_to("nowhere")
    elif what == "a folder":
        path.mkdir()
        (path / "somebody's").write_text("work")
    elif what == "a file":
        path.write_text("somebody's work")
    elif what == "a link":
        target = path.with_name("somebody's")
        target.write_text("work")
        path.symlink_to(target)
    else:
        os.mkfifo(path)


ID = id_of(IDENTITY)
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


@pytest.mark.parametrize("what", ["a link that leads nowhere", "a link", "a folder", "neither file nor folder"])
def test_who_holds_a_lock_is_told_to_nobody_elses_file(store, what):
    odd(store.root / ".locks" / f"teachers-{ID}.owner", what)
    assert store.write("teachers", IDENTITY, fill) is not None
    if what == "a link":
        assert (store.root / ".locks" / "somebody's").read_text() == "work"


@pytest.mark.filterwarnings("ignore:flock not supported")  # filelock's own word for ENOSYS
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_the_file_system_has_no_locks_files_stand_for_them(store, caplog, monkeypatch, number):
    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    caplog.set_level("INFO", logger="kd")
    started, waiting = threading.Event(), threading.Event()
    caplog.handler.addFilter(lambda record: waiting.set() or True)

    def slow(folder: Path) -> dict[str, object]:
        started.set()
        assert waiting.wait(60)
        return fill(folder, value=7.0)

    with ThreadPoolExecutor(1) as other:
        first = other.submit(store.write, "teachers", IDENTITY, slow)
        assert started.wait(60)
        second = store.write("teachers", IDENTITY, lambda folder: pytest.fail("made twice"))
    assert second == first.result()
    (message,) = caplog.messages
    assert message.startswith(f"teachers/{ID} is being made by process {os.getpid()} on ")
    if number != errno.ENOSYS:  # for which filelock itself does so
        held = store.root / ".locks" / f"teachers-{ID}.held"
        assert message.endswith(f"The file system has no locks: if that process is gone, remove {held}")
        assert not held.exists()


def test_a_lock_that_cannot_be_made_blames_the_output_folder(store, monkeypatch):
    def refuse(handle: int, operation: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match=r"^output_dir must be a folder that can be written, got .*not permitted"):
        store.write("teachers", IDENTITY, fill)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_everything_has_the_mode_that_the_umask_gives(store, umask, mode):
    def continued(folder: Path) -> dict[str, object]:
        with whole(folder / "logits-00000.safetensors") as working:
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


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_numbers_that_are_none_have_an_identity_too(number):
    assert len(id_of({"lr": number})) == 16


def test_a_small_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    plain_file.write(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    with pytest.raises(UnicodeEncodeError):
        plain_file.write(path, "new \ud800")
    path.with_name(f".result.json.{os.getpid()}").write_text("of a process that was killed")
    assert plain_file.read(path, 3) == "é\n".encode()
    with pytest.raises(ValueError, match="too large"):
        plain_file.read(path, 2)
    plain_file.write(path, "other")
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


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
