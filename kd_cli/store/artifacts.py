"""The store: folders named by the identity of what they hold, written whole or not at all, verified when read.

<output_dir>/teachers/<id>/ · soft_targets/<id>/ · students/<id>/
    model.safetensors or logits-*.safetensors · config.yaml · history.jsonl · manifest.json

The manifest holds the digest of every other file and of itself, so that no byte can change unnoticed. Digests tell
damage, not malice: whoever made a folder can make them agree, and what is read stays data.

While one is being made it is called `.<id>.partial`, and its maker holds a lock. Files in it whose names start with
`checkpoint.` say that it can be continued: it then outlives an interruption, and the next attempt finds it as it was.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from kd_cli.errors import ArtifactError, UnreadableError, first_line, reason
from kd_cli.files import plain_file
from kd_cli.files.digests import as_read, digest_of, digests_of, id_of, sealed, unsealed
from kd_cli.files.disk import sync, written
from kd_cli.files.locks import alone
from kd_cli.files.plain_file import aside
from kd_cli.store.format import FORMAT, MANIFEST, of_another_kd
from kd_cli.store.tensor_digest import digest_of_tensors

CHECKPOINT = "checkpoint."
LARGEST_TEXT = 1 << 26  # bytes of another file without tensors: the history of some 200,000 epochs
REBUILD = "The command that made it makes it anew with rebuild=true."
log = logging.getLogger("kd")


@dataclass(frozen=True)
class Artifact:
    """A folder of the store."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def content(self) -> str:
        """Digest of its tensors: the weights or the logits, without config, history and times."""
        files = self.manifest["files"]
        its = {name: entry for name, entry in files.items() if name.endswith(".safetensors")}
        return digest_of({name: entry.get("tensors", entry["sha256"]) for name, entry in its.items()})

    def file(self, name: str) -> Path:
        """Return the path of one of its files: ArtifactError for one that its manifest does not name."""
        if name not in self.manifest["files"]:
            raise ArtifactError(f"{self.folder / MANIFEST} names no {name}: it is not the artifact that is wanted.")
        return self.folder / name


@dataclass(frozen=True)
class Use:
    """What an artifact is wanted for: it has at most so many bytes of tensors, and `read` raises ArtifactError where
    its content cannot serve, though it be as it was written.
    """

    most: int
    read: Callable[[Artifact], object]


def read_artifact(folder: Path) -> Artifact:
    """Return the artifact in this folder, its content not yet verified; ArtifactError if there is none, or if its
    manifest is not as it was written or names a file that is not there in this size.
    """
    path = folder / MANIFEST
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ArtifactError(f"{path} is not a plain file.")
        if not path.exists():
            raise ArtifactError(f"{folder} is not an artifact of kd: it has no {MANIFEST}.")
        manifest = unsealed(path)
        if manifest.get("format") != FORMAT:
            raise of_another_kd(folder, manifest.get("format"))
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except OSError as error:
        raise UnreadableError(f"{error.filename or path} cannot be read: {reason(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({first_line(error)}).", REBUILD) from error
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
        if size > LARGEST_TEXT and not name.endswith(".safetensors"):
            raise ArtifactError(f"{folder / name} is larger than a file of kd can be.")
    return Artifact(folder, manifest)


def open_artifact(folder: Path, most: int | None = None) -> Artifact:
    """Return the artifact in this folder, verified: ArtifactError also where a file's SHA-256 differs from its
    manifest, or where it has more than `most` bytes of tensors, which nobody then waits for.
    """
    artifact = read_artifact(folder)
    files = artifact.manifest["files"]
    if most is not None and sum(files[name]["bytes"] for name in files if name.endswith(".safetensors")) > most:
        raise ArtifactError(f"{folder} holds more than what is wanted of it can take.")
    verify(artifact, list(files))
    return artifact


def verify(artifact: Artifact, names: list[str]) -> None:
    """Raise ArtifactError where the SHA-256 of one of these files differs from its manifest."""
    files, folder = artifact.manifest["files"], artifact.folder
    try:
        digests = digests_of([folder / name for name in names], "verifying")
    except OSError as error:
        raise UnreadableError(f"{error.filename or folder} cannot be read: {reason(error)}.") from error
    for name, sha256 in digests.items():
        if sha256 != files[name]["sha256"]:
            raise _damaged(folder / name)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write a file of an unfinished artifact so that it has its own name only when it is complete."""
    working = path.with_name(f"{CHECKPOINT}{path.name}")
    with written(path):
        try:
            working.touch()
            by_umask = _mode(working)
            yield working
            _let_others_read(by_umask, working)
            sync(working)
            working.replace(path)
        finally:
            working.unlink(missing_ok=True)


class Store:
    """Artifacts below one output folder. With `rebuild`, a damaged one counts as absent, and `write` moves it aside.

    `claim` is told of every artifact before it is looked for, so that whoever cleans up knows that it is wanted.
    """

    def __init__(self, root: Path, rebuild: bool = False, claim: Callable[[Path], None] = lambda folder: None) -> None:
        self.root, self.rebuild, self.claim = root, rebuild, claim

    def find(self, kind: str, identity: dict[str, Any], use: Use | None = None) -> Artifact | None:
        """Return what has this identity, verified and read, or None."""
        folder, about = self._folder(kind, identity), {"kind": kind, "identity": identity}
        self.claim(folder)
        if not os.path.lexists(folder):
            return None
        try:
            plain_file.expect(folder, "folder", rebuild=False)
            artifact = open_artifact(folder, use.most if use else None)
            if id_of({key: artifact.manifest.get(key) for key in about}) != id_of(as_read(about)):
                raise ArtifactError(f"{folder / MANIFEST} is that of another artifact.")
            if use:
                use.read(artifact)
        except UnreadableError:
            raise
        except ArtifactError as error:
            if not self.rebuild:
                error.remedy = REBUILD
                raise
            log.info("%s", error.problem)
            return None
        return artifact

    def has(self, kind: str, identity: dict[str, Any]) -> bool:
        """Return whether something has this identity, not yet verified."""
        return self._folder(kind, identity).exists()

    def write(
        self,
        kind: str,
        identity: dict[str, Any],
        fill: Callable[[Path], dict[str, Any]],
        use: Use | None = None,
    ) -> Artifact:
        """Lets `fill` write the files into a folder of their own, which appears under its name only when complete.

        What `fill` returns is added to the manifest. The folder may hold what an earlier attempt left to be continued;
        of what this one leaves, `checkpoint.*` does not belong to the artifact. Where another process is making the
        same artifact, this one waits for it and takes what it made. What is made has been read, as what is found.
        Raises ConfigError for what the disk refuses.
        """
        folder = self._folder(kind, identity)
        with self._alone(folder):
            found = self.find(kind, identity, use)
            if found is not None:
                return found
            with written(folder):
                if os.path.lexists(folder):
                    log.info("moved aside to %s, made anew", aside(folder).name)
            plain_file.expect(folder.parent, "folder", self.rebuild)
            made = _make(folder, {"kind": kind, "identity": identity}, fill, self.rebuild)
        if use:
            use.read(made)
        return made

    @contextmanager
    def unfinished(self, kind: str, identity: dict[str, Any]) -> Iterator[Path]:
        """A folder for what becomes no artifact itself, held and kept like that of an unfinished one."""
        folder = self._folder(kind, identity)
        with self._alone(folder), _work(folder, self.rebuild) as work:
            yield work
            shutil.rmtree(work)

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

    def _alone(self, folder: Path) -> AbstractContextManager[None]:
        return alone(self.root, f"{folder.parent.name}/{folder.name}", self.rebuild)

    def _folder(self, kind: str, identity: dict[str, Any]) -> Path:
        return self.root / kind / id_of(identity)


@contextmanager
def _work(folder: Path, rebuild: bool) -> Iterator[Path]:
    """The folder in which an artifact is made; afterwards it is there only where it can be continued."""
    work = folder.with_name(f".{folder.name}.partial")
    plain_file.expect(work, "folder", rebuild)
    with written(work):
        if not _checkpoints(work):
            shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
    try:
        yield work
    except BaseException:
        if not _checkpoints(work):
            shutil.rmtree(work, ignore_errors=True)
        raise


def _make(folder: Path, about: dict[str, Any], fill: Callable[[Path], dict[str, Any]], rebuild: bool) -> Artifact:
    with _work(folder, rebuild) as work:
        notes = fill(work)
        with written(work):
            kept = sorted(set(work.iterdir()) - {*_checkpoints(work), work / MANIFEST})  # may be an earlier attempt's
            files = {
                name: {"bytes": (work / name).stat().st_size, "sha256": sha256, **_tensors(work / name)}
                for name, sha256 in digests_of(kept, "checksums").items()
            }
            created = datetime.now(UTC).isoformat(timespec="seconds")
            manifest = {"format": FORMAT, **about, "files": files, "created": created, **notes}
            (work / MANIFEST).write_text(sealed(manifest), encoding="utf-8")
            _let_others_read(_mode(work / MANIFEST), *kept)
            for path in (*work.iterdir(), work):
                sync(path)
            for path in _checkpoints(work):  # last of all: without them, an attempt that dies is begun anew
                path.unlink()
            work.rename(folder)
            sync(folder.parent)
    return read_artifact(folder)


def _tensors(path: Path) -> dict[str, str]:
    """What else a manifest says of a file of a network's weights: a digest that stands in identities."""
    digest = digest_of_tensors(path) if path.suffix == ".safetensors" else None
    return {} if digest is None else {"tensors": digest}


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


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError(f"{path} is damaged: it differs from its manifest.", REBUILD)
