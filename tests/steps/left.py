"""What a run left."""

import hashlib
from pathlib import Path
from typing import Any

STAGES = ("teacher", "soft_targets", "student", "baseline")


def artifacts(result: dict[str, Any]) -> dict[str, str]:
    return {name: stage["artifact"] for name, stage in result["stages"].items()}


def cached(result: dict[str, Any]) -> set[str]:
    return {name for name, stage in result["stages"].items() if stage["cached"]}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


JITTER = "augment@transfer.augment=jitter"
