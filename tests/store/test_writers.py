"""Who writes an artifact: one at a time, and what one that ends before its time leaves to the next."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filled import FILES, ID, IDENTITY, fill, odd

from kd_cli.errors import ConfigError
from kd_cli.store import artifacts
from kd_cli.store.artifacts import Artifact, Store


def written_twice_at_once(store: Store, caplog: pytest.LogCaptureFixture) -> Artifact:
    """What two writers have made, the second of which came while the first was at work and said that it waits."""
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
    return second


def test_a_second_writer_waits_says_for_whom_and_takes_what_the_first_has_made(store, caplog):
    second = written_twice_at_once(store, caplog)
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
    written_twice_at_once(store, caplog)
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
