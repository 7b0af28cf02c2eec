"""A run's own folder: `.hydra/`, `kd.log`, and `result.json`, which tells the truth even of a run that was killed."""

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from kd_cli.disk import written
from kd_cli.errors import ArtifactError

RESULT = "result.json"


def begin(folder: Path, result: dict[str, Any]) -> None:
    """Marks the input as accepted. Until the run ends, its result reads `interrupted`: so it stays if it is killed."""
    _write(folder, {**result, "status": "interrupted"})


def update(folder: Path, result: dict[str, Any]) -> None:
    """Puts these fields into result.json, at once and whole; into a new one where it is damaged."""
    with suppress(ArtifactError):
        result = {**(read(folder) or {}), **result}
    _write(folder, result)


def read(folder: Path) -> dict[str, Any] | None:
    """result.json, or None before the input was accepted. Raises ArtifactError where it is damaged."""
    path = folder / RESULT
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({type(error).__name__}).") from error
    if content is not None and not isinstance(content, dict):
        raise ArtifactError(f"{path} is damaged (no mapping).")
    return content


def _write(folder: Path, result: dict[str, Any]) -> None:
    temporary = folder / f".{RESULT}.{os.getpid()}"  # the same sweep may run twice at once
    with written(folder):
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        temporary.replace(folder / RESULT)


def forget(folder: Path, output_dir: Path) -> None:
    """Removes what Hydra wrote for a refused run, and no other file; then the folders that this leaves empty."""
    logging.shutdown()
    for path in [*(folder / ".hydra").glob("*.yaml"), folder / "kd.log", folder / "multirun.yaml"]:
        path.unlink(missing_ok=True)
    for empty in (folder / ".hydra", folder, folder.parent, output_dir):
        with suppress(OSError):
            empty.rmdir()
