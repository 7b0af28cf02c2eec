"""Digests: of plain values, of files, and of a JSON file that holds its own."""

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from kd_cli.files import plain_file
from kd_cli.progress import task

LARGEST = 1 << 24  # bytes of a sealed file: a hundred times the manifest of 1,000 views
GIGABYTE = 10**9


def digest_of(identity: Any) -> str:
    """SHA-256 of a tree of plain values, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def id_of(identity: Any) -> str:
    """Return the name of what has this identity: the same for 1 and 1.0, as whoever typed them meant the same."""
    return digest_of(_equal_numbers(identity))[:16]


def sealed(manifest: dict[str, Any]) -> str:
    """Return the text of a manifest, its own digest in it."""
    manifest = as_read(manifest)
    return json.dumps({**manifest, "digest": digest_of(manifest)}, indent=2) + "\n"


def unsealed(path: Path) -> dict[str, Any]:
    """Return the reverse of `sealed`, from a file; ValueError and the like where it is not as it was written."""
    if path.is_symlink():
        raise ValueError("it is no plain file")
    text = plain_file.read_plain(path, LARGEST).decode()
    manifest: dict[str, Any] = json.loads(text)
    if text != sealed({key: value for key, value in manifest.items() if key != "digest"}):
        raise ValueError("it is not as it was written")
    return manifest


def as_read(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON makes of it: keys are words, tuples are lists."""
    read: dict[str, Any] = json.loads(json.dumps(manifest))
    return read


def digests_of(paths: list[Path], title: str) -> dict[str, str]:
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


def _equal_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _equal_numbers(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_equal_numbers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
