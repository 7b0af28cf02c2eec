"""`kd clean`: removes from the store what nothing refers to."""

from pathlib import Path

from omegaconf import DictConfig

from kd_cli.artifacts import Store
from kd_cli.inventory import inventory, unused
from kd_cli.screen import override, say
from kd_cli.stages.list import show, size


def main(cfg: DictConfig) -> None:
    """Shows what no run refers to, what was damaged and what was left unfinished; removes it with `yes=true`."""
    root = Path(cfg.output_dir)
    entries = unused(inventory(root))
    if not entries:
        say(f"Nothing to remove in {root}.")
        return
    show(entries, root)
    total = {entry.name: entry.bytes for entry in entries}
    if not cfg.yes:
        say(f"kd clean {override('output_dir', root)} yes=true removes them: {size(sum(total.values()))}.")
        return
    store = Store(root)
    held = [entry.name for entry in entries if not store.remove(entry.folder)]
    freed = sum(number for name, number in total.items() if name not in held)
    say(f"Removed {len(entries) - len(held)} folders: {size(freed)}.")
    for name in held:
        say(f"{name} is being made by another process: kept.")
