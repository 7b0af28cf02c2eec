"""A sweep of four jobs, for the tests of what it leaves."""

import json
from pathlib import Path
from typing import Any

from running import TINY

COMMAND = ("sweep", "temperature=1,4", "seed=0,1", *TINY)
JOBS = ["temperature-1_seed-0", "temperature-1_seed-1", "temperature-4_seed-0", "temperature-4_seed-1"]


def results(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))}
