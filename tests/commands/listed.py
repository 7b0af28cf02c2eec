"""The store as `kd list` shows it."""

import json
from pathlib import Path
from typing import Any

from running import inside


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    done = inside("list", "format=json", cwd=folder)
    assert (done.status, done.err) == (0, "")
    return {row["artifact"]: row for row in json.loads(done.out)}


def remaining(here: Path) -> set[str]:
    """The artifacts that are whole."""
    return {name for name, row in listed(here).items() if row["state"] == "complete"}
