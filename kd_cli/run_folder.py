"""A run's own folder: `.hydra/`, `kd.log`, and `result.json`, which tells the truth even of a run that was killed."""

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

RESULT = "result.json"


def begin(folder: Path, result: dict[str, Any]) -> None:
    """Marks the input as accepted. Until the run ends, its result reads `interrupted`: so it stays if it is killed."""
    update(folder, {**result, "status": "interrupted"})


def update(folder: Path, result: dict[str, Any]) -> None:
    """Puts these fields into result.json, at once and whole."""
    result = {**(read(folder) or {}), **result}
    temporary = folder / f".{RESULT}"
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    temporary.replace(folder / RESULT)


def read(folder: Path) -> dict[str, Any] | None:
    """result.json, or None before the input was accepted."""
    path = folder / RESULT
    content: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return content


def forget(folder: Path, output_dir: Path) -> None:
    """Removes what Hydra wrote for a refused run, and no other file; then the folders that this leaves empty."""
    logging.shutdown()
    for path in [*(folder / ".hydra").glob("*.yaml"), folder / "kd.log", folder / "multirun.yaml"]:
        path.unlink(missing_ok=True)
    for empty in (folder / ".hydra", folder, folder.parent, output_dir):
        with suppress(OSError):
            empty.rmdir()
