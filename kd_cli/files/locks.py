"""One process at a time: locks in an output folder, which the system takes from a process that dies.

A lock's file stays: whoever removed it could let two processes in, one by the old file and one by a new one. Where the
file system has no locks, a file stands for one as long as it is held.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from kd_cli.files import plain_file
from kd_cli.progress import log

FOLDER = ".locks"
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
BUSY = "%s is being made by %s: waiting for it"
MOST = 1000  # bytes that say who holds a lock


@contextmanager
def alone(root: Path, name: str, rebuild: bool = False, said: str | None = BUSY, patience: float = 0) -> Iterator[None]:
    """Holds the lock `name` of the output folder `root`. After `patience` seconds it says for whom it waits, or where
    nothing is to be `said` it raises Timeout. What stands in a lock's place is refused, or moved aside with `rebuild`.
    """
    path = _path(root, name)
    plain_file.expect(path.parent, "folder", rebuild)
    plain_file.expect(path, "file", rebuild)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _held(path, name, said, patience)
    except Timeout:
        raise
    except OSError as error:
        raise plain_file.unwritable(root, error) from error
    owner = path.with_suffix(".owner")
    try:
        with suppress(OSError):  # who it is helps those who wait, and nobody else
            owner.unlink(missing_ok=True)
            with owner.open("x") as file:
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def forget(root: Path, name: str) -> None:
    """Removes the lock, which is held, of what turned out to be nothing, and the folders that this leaves empty."""
    path = _path(root, name)
    for file in (path, path.with_suffix(".owner")):
        with suppress(OSError):
            file.unlink()
    for empty in (path.parent, root):
        with suppress(OSError):
            empty.rmdir()


def _path(root: Path, name: str) -> Path:
    return root / FOLDER / f"{name.replace('/', '-')}.lock"


def _held(path: Path, name: str, said: str | None, patience: float) -> BaseFileLock:
    """The system's lock, or where its file system has none a file that is there as long as it is held."""
    try:
        return _acquired(FileLock(path), path, name, said, patience)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
    stands = path.with_suffix(".held")
    if said is not None:
        said = f"{said}. The file system has no locks: if that process is gone, remove {str(stands).replace('%', '%%')}"
    return _acquired(SoftFileLock(stands), path, name, said, patience)


def _acquired(lock: BaseFileLock, path: Path, name: str, said: str | None, patience: float) -> BaseFileLock:
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        if said is None:
            raise
        log.info(said, name, _owner(path.with_suffix(".owner")))
        lock.acquire()
    return lock


def _owner(path: Path) -> str:
    with suppress(OSError, ValueError):
        return plain_file.read_plain(path, MOST).decode()
    return "another process"
