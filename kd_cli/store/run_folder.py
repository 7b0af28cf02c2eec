"""A run's own folder: `.hydra/`, `kd.log`, and `result.json`, which tells the truth even of a run that was killed."""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from kd_cli.errors import ArtifactError, first_line
from kd_cli.files import plain_file

RESULT = "result.json"
FORMAT = 1  # raised when a reader of results must know better, not when a field is added
LARGEST = 1 << 25  # bytes: six times one with the 21,841 classes of ImageNet-21k
REPLACES = "replaces"


class OtherFormatError(ArtifactError):
    """Another kd wrote the result, in a format that this one does not read."""


def mark_accepted(folder: Path, result: dict[str, Any]) -> None:
    """Mark the input as accepted. Until the run ends, its result reads `interrupted`: so it stays if it is killed.
    That of a completed run, which had the folder before, is kept in it until this one completes.
    """
    before: dict[str, Any] = {}
    with suppress(ArtifactError):
        before = content(folder) or {}
    stands = before if before.get("status") == "completed" else before.get(REPLACES)
    _write(folder, {**result, "status": "interrupted", **({REPLACES: stands} if stands else {})})


def update(folder: Path, result: dict[str, Any]) -> None:
    """Put these fields into result.json, at once and whole; into a new one where it is damaged."""
    with suppress(ArtifactError):
        result = {**(content(folder) or {}), **result}
    if result.get("status") == "completed":
        result.pop(REPLACES, None)
    _write(folder, result)


def read(folder: Path) -> dict[str, Any] | None:
    """Return result.json, or None before the input was accepted. Raises ArtifactError where it is damaged, or was
    written in another format.
    """
    found = content(folder)
    if found is not None:
        expect_result_format(found, folder / RESULT)
    return found


def content(folder: Path) -> dict[str, Any] | None:
    """Return result.json, whichever kd wrote it. Raises ArtifactError where it is damaged."""
    path = folder / RESULT
    try:
        found = json.loads(plain_file.read_plain(path, LARGEST))
    except FileNotFoundError:
        if path.is_symlink():
            raise ArtifactError(f"{path} is a link that leads nowhere.") from None
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({first_line(error)}).") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} is damaged (no mapping).")
    return found


def expect_result_format(result: Mapping[str, Any], where: str | Path) -> None:
    """Raise ArtifactError for a result that another kd wrote, whose file is `where`."""
    found = result.get("format")
    if "format" not in result or (type(found) is int and found > FORMAT):
        which = "a later" if found else "an earlier"
        hint = "Run it anew into another output_dir=<folder>."
        raise OtherFormatError(f"{where} was written by {which} kd, whose format this one does not read. {hint}")
    if type(found) is not int or found != FORMAT:
        raise ArtifactError(f"{where} is damaged: its format must be {FORMAT}, got {shortened(found)}.")


def artifact_of(path: Path, result: Mapping[str, Any], name: str) -> Path | None:
    """Return the folder of the artifact `name` that the result of the run in `path` names, if it is there."""
    # runs/<name>/ lies beside students/, sweeps/<name>/<job>/ one deeper: they are found again if all are moved. A run
    # whose folder was elsewhere says where they are.
    told = [Path(str(result["output_dir"]))] if "output_dir" in result else []
    return next((there for parent in (*path.resolve().parents, *told) if (there := Path(parent, name)).is_dir()), None)


def stamp(folder: Path) -> tuple[int, int] | None:
    """Return what differs as soon as another result.json is written, None where there is none."""
    try:
        status = (folder / RESULT).lstat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _write(folder: Path, result: dict[str, Any]) -> None:
    result = {"format": FORMAT, **{key: value for key, value in result.items() if key != "format"}}
    plain_file.write(folder / RESULT, json.dumps(result, indent=2) + "\n")


def discard(folder: Path, output_dir: Path) -> None:
    """Remove what Hydra wrote for a refused run, and no other file; then the folders that this leaves empty."""
    logging.shutdown()
    for path in [*(folder / ".hydra").glob("*.yaml"), folder / "kd.log", folder / "multirun.yaml"]:
        path.unlink(missing_ok=True)
    for empty in (folder / ".hydra", folder, folder.parent, output_dir):
        with suppress(OSError):
            empty.rmdir()
