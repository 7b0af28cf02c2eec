"""`kd clean`: removes from the store what nothing refers to."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from kd_cli.artifacts import Store
from kd_cli.inventory import inventory, unused
from kd_cli.stages.list import show, size


def main(cfg: DictConfig) -> None:
    """Shows what no run refers to, what was damaged and what was left unfinished; removes it with `yes=true`."""
    root = Path(cfg.output_dir)
    entries = unused(inventory(root))
    if not entries:
        print(f"Nothing to remove in {root}.", file=sys.stderr)
        return
    show(entries, root)
    total = {entry.name: entry.bytes for entry in entries}
    if not cfg.yes:
        print(f"kd clean yes=true removes them: {size(sum(total.values()))}.", file=sys.stderr)
        return
    store = Store(root)
    held = [entry.name for entry in entries if not store.remove(entry.folder)]
    freed = sum(number for name, number in total.items() if name not in held)
    print(f"Removed {len(entries) - len(held)} folders: {size(freed)}.", file=sys.stderr)
    for name in held:
        print(f"{name} is being made by another process: kept.", file=sys.stderr)
