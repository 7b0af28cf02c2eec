"""`kd list`: what the store holds, and who uses it."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.filesize import decimal

from kd_cli.screen import answer, write_csv
from kd_cli.store.inventory import KINDS, Entry, inventory
from kd_cli.table import Sheet, surface

COLUMNS = ("artifact", "state", "title", "bytes", "created", "users")


def main(cfg: DictConfig) -> None:
    """Prints a row for each artifact on standard output, as a table, JSON or CSV."""
    entries = inventory(Path(cfg.output_dir)).entries
    rows = [row(entry) for entry in entries]
    if cfg.format == "json":
        answer(json.dumps(rows, indent=2))
    elif cfg.format == "csv":
        write_csv(sys.stdout, COLUMNS, ({**each, "users": " ".join(each["users"])} for each in rows))
    else:
        show_entries(entries, Path(cfg.output_dir))


def row(entry: Entry) -> dict[str, Any]:
    """Return what JSON says of an artifact."""
    created = entry.created.isoformat(timespec="seconds")
    return dict(zip(COLUMNS, (entry.name, entry.state, entry.title, entry.bytes, created, entry.users), strict=True))


def show_entries(entries: list[Entry], root: Path) -> None:
    """Print the table on standard output."""
    rows = []
    for entry in entries:
        title = entry.title if entry.state == "complete" else entry.state
        runs = sum(not user.startswith(KINDS) for user in entry.users)
        users = f"{runs} runs, {len(entry.users) - runs} artifacts" if entry.users else "–"
        rows.append((entry.name, title, decimal(entry.bytes), _age(entry.created), users))
    headings, words = ("artifact", "what it is", "size", "age", "used by"), ("artifact", "what it is", "used by")
    surface(sys.stdout).print(Sheet(f"{len(entries)} artifacts in {root}", headings, rows, left=words))


def _age(created: datetime) -> str:
    seconds = max((datetime.now(UTC) - created).total_seconds(), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
