"""The store: folders named by the identity of what they hold, written whole or not at all, verified when read.

<output_dir>/teachers/<id>/ · soft_targets/<id>/ · students/<id>/
    model.safetensors or logits-*.safetensors · config.yaml · history.jsonl · manifest.json

While one is being made it is called `.<id>.partial`, and its maker holds a lock. Files in it whose names start with
`checkpoint.` say that it can be continued: it then outlives an interruption, and the next attempt finds it as it was.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kd_cli.errors import ArtifactError, must
from kd_cli.progress import task

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint."
GIGABYTE = 10**9
log = logging.getLogger("kd")


def digest_of(identity: Any) -> str:
    """SHA-256 of a tree of plain values, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A folder of the store."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def content(self) -> str:
        """Digest of its tensors: the weights or the logits, without config, history and times."""
        files = self.manifest["files"]
        return digest_of({name: files[name]["sha256"] for name in files if name.endswith(".safetensors")})


def read_artifact(folder: Path) -> Artifact:
    """The artifact in this folder, its content not yet verified; ArtifactError if there is none, or if its manifest
    cannot be read or names a file that is not there in this size.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        raise ArtifactError(f"{folder} is not an artifact of kd: it has no {MANIFEST}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST} is damaged ({error}). Remove {folder}; it is then made anew."
        ) from error
    for name, (size, _) in files.items():
        path = folder / name
        if Path(name).name != name or path.is_symlink():
            raise ArtifactError(f"{folder / MANIFEST} names {name!r}, which is not a plain file of its folder.")
        if not path.is_file() or path.stat().st_size != size:
            raise _damaged(path)
    return Artifact(folder, manifest)


def open_artifact(folder: Path) -> Artifact:
    """The artifact in this folder, verified: ArtifactError also where a file's SHA-256 differs from its manifest."""
    artifact = read_artifact(folder)
    files = artifact.manifest["files"]
    for name, sha256 in _digests([folder / name for name in files], "verifying").items():
        if sha256 != files[name]["sha256"]:
            raise _damaged(folder / name)
    return artifact


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file of an unfinished artifact so that it has its own name only when it is complete."""
    working = path.with_name(f"{CHECKPOINT}{path.name}")
    try:
        yield working
        _sync(working)
        working.replace(path)
    finally:
        working.unlink(missing_ok=True)


class Store:
    """Artifacts below one output folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, kind: str, identity: dict[str, Any]) -> Artifact | None:
        """What has this identity, verified, or None."""
        folder = self._folder(kind, identity)
        return open_artifact(folder) if folder.exists() else None

    def write(
        self,
        kind: str,
        identity: dict[str, Any],
        fill: Callable[[Path], dict[str, Any]],
    ) -> Artifact:
        """Lets `fill` write the files into a folder of their own, which appears under its name only when complete.

        What `fill` returns is added to the manifest. The folder may hold what an earlier attempt left to be continued;
        of what this one leaves, `checkpoint.*` does not belong to the artifact. Where another process is making the
        same artifact, this one waits for it and takes what it made. Raises ConfigError when the disk is full.
        """
        folder = self._folder(kind, identity)
        try:
            with self._alone(folder):
                found = self.find(kind, identity)
                return found or _make(folder, {"kind": kind, "identity": identity}, fill)
        except Exception as error:
            if not _disk_is_full(error):
                raise
            hint = "Its disk is full. Make room there: the same command then goes on."
            raise must("output_dir", "a folder with room", str(self.root), hint) from error

    @contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """Holds the lock of this artifact, which the system takes from a process that dies. The lock's file stays:
        whoever removed it could let two processes in, one by the old file and one by a new one.
        """
        path = self.root / ".locks" / f"{folder.parent.name}-{folder.name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        owner, lock = path.with_suffix(".owner"), FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = owner.read_text() if owner.is_file() else "another process"
            log.info("%s/%s is being made by %s: waiting for it", folder.parent.name, folder.name, who)
            lock.acquire()
        try:
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    def _folder(self, kind: str, identity: dict[str, Any]) -> Path:
        return self.root / kind / digest_of(identity)[:16]


def _make(folder: Path, about: dict[str, Any], fill: Callable[[Path], dict[str, Any]]) -> Artifact:
    work = folder.with_name(f".{folder.name}.partial")
    if not _checkpoints(work):
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    try:
        notes = fill(work)
        kept = sorted(set(work.iterdir()) - {*_checkpoints(work), work / MANIFEST})  # one may be an earlier attempt's
        files = {
            name: {"bytes": (work / name).stat().st_size, "sha256": sha256}
            for name, sha256 in _digests(kept, "checksums").items()
        }
        created = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = {**about, "files": files, "created": created, **notes}
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        for path in (*work.iterdir(), work):
            _sync(path)
        for path in _checkpoints(work):  # last of all: without them, an attempt that dies is begun anew
            path.unlink()
        work.rename(folder)
        _sync(folder.parent)
    except BaseException:
        if not _checkpoints(work):
            shutil.rmtree(work, ignore_errors=True)
        raise
    return read_artifact(folder)


def _checkpoints(work: Path) -> list[Path]:
    return list(work.glob(f"{CHECKPOINT}*"))


def _digests(paths: list[Path], title: str) -> dict[str, str]:
    """SHA-256 of each file by name, in one sequential pass; its progress is shown where it takes seconds."""
    total, done, digests = sum(path.stat().st_size for path in paths), 0, {}
    with task(title, "GB", total // GIGABYTE) if total > GIGABYTE else nullcontext() as progress:
        for path in paths:
            sha = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(1 << 20):
                    sha.update(chunk)
                    done += len(chunk)
                    if progress:
                        progress.move(done / GIGABYTE)
            digests[path.name] = sha.hexdigest()
    return digests


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError(
        f"{path} is damaged: it differs from its manifest. Remove {path.parent}; it is then made anew."
    )


def _disk_is_full(error: Exception) -> bool:
    """Also where safetensors says it, whose errors are no OSError."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
