"""Changes to what is stored that its manifest agrees with."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from running import seal


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes config.yaml and makes the manifest agree, as an attacker would."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    rewrite(folder, "config.yaml", yaml.safe_dump(config).encode())


def rewrite(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    seal(folder, manifest)
