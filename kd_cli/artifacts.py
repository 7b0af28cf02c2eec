"""The store: folders named by the identity of what they hold, written whole or not at all, verified when read.

<output_dir>/teachers/<id>/ · soft_targets/<id>/ · students/<id>/
    model.safetensors or logits-*.safetensors · config.yaml · history.jsonl · manifest.json
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kd_cli.errors import ArtifactError

MANIFEST = "manifest.json"


def digest_of(identity: Any) -> str:
    """SHA-256 of a tree of plain values, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A verified folder of the store."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def content(self) -> str:
        """Digest of its tensors: the weights or the logits, without config, history and times."""
        files = self.manifest["files"]
        return digest_of({name: files[name]["sha256"] for name in files if name.endswith(".safetensors")})


def open_artifact(folder: Path) -> Artifact:
    """The artifact in this folder; ArtifactError if it is none, or if a file differs from its manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        raise ArtifactError(f"{folder} is not an artifact of kd: it has no {MANIFEST}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST} is damaged ({error}). Remove {folder}; it is then made anew."
        ) from error
    for name, (size, sha256) in files.items():
        path = folder / name
        if Path(name).name != name or path.is_symlink():
            raise ArtifactError(f"{folder / MANIFEST} names {name!r}, which is not a plain file of its folder.")
        if not path.is_file() or path.stat().st_size != size or _sha256(path) != sha256:
            raise ArtifactError(
                f"{path} is damaged: it differs from its manifest. Remove {folder}; it is then made anew."
            )
    return Artifact(folder, manifest)


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

        What `fill` returns is added to the manifest. Should another process have been faster, its folder stays.
        """
        folder = self._folder(kind, identity)
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            notes = fill(work)
            files = {
                path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(work.iterdir())
            }
            created = datetime.now(UTC).isoformat(timespec="seconds")
            manifest = {"kind": kind, "identity": identity, "files": files, "created": created, **notes}
            (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
            for path in work.iterdir():
                _sync(path)
            work.chmod(0o755)
            try:
                work.rename(folder)
            except OSError:
                if not (folder / MANIFEST).is_file():
                    raise
            _sync(folder.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return open_artifact(folder)

    def _folder(self, kind: str, identity: dict[str, Any]) -> Path:
        return self.root / kind / digest_of(identity)[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
