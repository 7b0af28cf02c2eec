"""The store: folders named by the identity of what they hold, written whole or not at all, verified when read.

<output_dir>/teachers/<id>/ · soft_targets/<id>/ · students/<id>/
    model.safetensors or logits-*.safetensors · config.yaml · history.jsonl · manifest.json

The manifest holds the digest of every other file and of itself, so that no byte can change unnoticed. Digests tell
damage, not malice: whoever made a folder can make them agree, and what is read stays data.

While one is being made it is called `.<id>.partial`, and its maker holds a lock. Files in it whose names start with
`checkpoint.` say that it can be continued: it then outlives an interruption, and the next attempt finds it as it was.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from kd_cli import plain_file
from kd_cli.errors import ArtifactError, first_line, must
from kd_cli.locks import alone
from kd_cli.plain_file import FULL, aside
from kd_cli.progress import task

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint."
LARGEST_MANIFEST = 1 << 24  # bytes: a hundred times one of 1,000 views
GIGABYTE = 10**9
REBUILD = "The command that made it makes it anew with rebuild=true."
log = logging.getLogger("kd")


def digest_of(identity: Any) -> str:
    """SHA-256 of a tree of plain values, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def id_of(identity: Any) -> str:
    """The name of what has this identity: the same for 1 and 1.0, as whoever typed them meant the same."""
    return digest_of(_equal_numbers(identity))[:16]


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

    def file(self, name: str) -> Path:
        """The path of one of its files: ArtifactError for one that its manifest does not name."""
        if name not in self.manifest["files"]:
            raise ArtifactError(f"{self.folder / MANIFEST} names no {name}: it is not the artifact that is wanted.")
        return self.folder / name


def sealed(manifest: dict[str, Any]) -> str:
    """The text of a manifest, its own digest in it."""
    manifest = _as_read(manifest)
    return json.dumps({**manifest, "digest": digest_of(manifest)}, indent=2) + "\n"


def read_artifact(folder: Path) -> Artifact:
    """The artifact in this folder, its content not yet verified; ArtifactError if there is none, or if its manifest
    is not as it was written or names a file that is not there in this size.
    """
    path = folder / MANIFEST
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ArtifactError(f"{path} is not a plain file.")
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise ValueError("it is too large")
        text = path.read_bytes().decode()
        manifest = json.loads(text)
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        if text != sealed({key: value for key, value in manifest.items() if key != "digest"}):
            raise ValueError("it is not as it was written")
    except FileNotFoundError:
        raise ArtifactError(f"{folder} is not an artifact of kd: it has no {MANIFEST}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({first_line(error)}). {REBUILD}") from error
    for name, (size, _) in files.items():
        try:
            plain = Path(name).name == name and not (folder / name).is_symlink()
            whole = plain and (folder / name).is_file() and (folder / name).stat().st_size == size
        except (OSError, ValueError):  # no name that a file can have
            plain = False
        if not plain:
            raise ArtifactError(f"{path} names {name[:100]!r}, which is not a plain file of its folder.")
        if not whole:
            raise _damaged(folder / name)
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
        working.touch()
        by_umask = _mode(working)
        yield working
        _let_others_read(by_umask, working)
        _sync(working)
        working.replace(path)
    finally:
        working.unlink(missing_ok=True)


class Store:
    """Artifacts below one output folder. With `rebuild`, a damaged one counts as absent, and `write` moves it aside.

    `claim` is told of every artifact before it is looked for, so that whoever cleans up knows that it is wanted.
    """

    def __init__(self, root: Path, rebuild: bool = False, claim: Callable[[Path], None] = lambda folder: None) -> None:
        self.root, self.rebuild, self.claim = root, rebuild, claim

    def find(self, kind: str, identity: dict[str, Any]) -> Artifact | None:
        """What has this identity, verified, or None."""
        folder, about = self._folder(kind, identity), {"kind": kind, "identity": identity}
        self.claim(folder)
        if not os.path.lexists(folder):
            return None
        try:
            plain_file.expect(folder, "folder", rebuild=False)
            artifact = open_artifact(folder)
            if id_of({key: artifact.manifest.get(key) for key in about}) != id_of(_as_read(about)):
                raise ArtifactError(f"{folder / MANIFEST} is that of another artifact.")
        except ArtifactError as error:
            refusal = str(error).removesuffix(REBUILD).removesuffix(plain_file.ASIDE).strip()
            if not self.rebuild:
                raise ArtifactError(f"{refusal} {REBUILD}") from error
            log.info("%s", refusal)
            return None
        return artifact

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
            with alone(self.root, f"{kind}/{folder.name}", self.rebuild):
                found = self.find(kind, identity)
                if found is None and os.path.lexists(folder):
                    log.info("moved aside to %s, made anew", aside(folder).name)
                for place in (folder.parent, _work(folder)):
                    plain_file.expect(place, "folder", self.rebuild)
                return found or _make(folder, {"kind": kind, "identity": identity}, fill)
        except Exception as error:
            if not _disk_is_full(error):
                raise
            raise must("output_dir", "a folder with room", str(self.root), FULL) from error

    def put_aside(self, folder: Path) -> Path | None:
        """Renames a folder of the store, also an unfinished or damaged one, so that nothing bears an artifact's name
        when it is removed; None while somebody makes it.
        """
        name = folder.name.removeprefix(".").partition(".")[0]
        try:
            with alone(self.root, f"{folder.parent.name}/{name}", said=None):
                return aside(folder)
        except Timeout:
            return None

    def _folder(self, kind: str, identity: dict[str, Any]) -> Path:
        return self.root / kind / id_of(identity)


def _make(folder: Path, about: dict[str, Any], fill: Callable[[Path], dict[str, Any]]) -> Artifact:
    work = _work(folder)
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
        (work / MANIFEST).write_text(sealed(manifest))
        _let_others_read(_mode(work / MANIFEST), *kept)
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


def _as_read(manifest: dict[str, Any]) -> dict[str, Any]:
    """What JSON makes of it: keys are words, tuples are lists."""
    read: dict[str, Any] = json.loads(json.dumps(manifest))
    return read


def _equal_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _equal_numbers(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_equal_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _work(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _let_others_read(by_umask: int, *paths: Path) -> None:
    """Gives files the mode that the umask gives: safetensors writes for its own user alone."""
    for path in paths:
        if _mode(path) != by_umask:
            with suppress(OSError):  # a file system that has no modes
                path.chmod(by_umask)


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
    return ArtifactError(f"{path} is damaged: it differs from its manifest. {REBUILD}")


def _disk_is_full(error: Exception) -> bool:
    """Also where safetensors says it, whose errors are no OSError."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
