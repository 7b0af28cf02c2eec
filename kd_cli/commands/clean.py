"""`kd clean`: removes from the store what nothing refers to."""

import shutil
from pathlib import Path

from omegaconf import DictConfig
from rich.filesize import decimal

from kd_cli.commands.list import show_entries
from kd_cli.errors import ArtifactError, first_line
from kd_cli.screen import override, say, shown
from kd_cli.store.artifacts import Store
from kd_cli.store.inventory import Entry, Inventory, inventory, settled


def main(cfg: DictConfig) -> None:
    """Shows what no run refers to, what was damaged and what was left unfinished; removes it with `yes=true`. What a
    run outside the output folder uses, or one that cannot be read may use, stays unless `force=true` says otherwise.
    """
    root = Path(cfg.output_dir)
    found = inventory(root)
    going, doubtful = _going(found, cfg.force), found.doubtful()
    if going:
        show_entries(going, root)
    else:
        say(f"Nothing to remove in {root}.")
    if doubtful:
        _say_why(found, doubtful, root, cfg.force)
    if going and not cfg.yes:
        words = "yes=true force=true" if cfg.force and doubtful else "yes=true"
        freed = decimal(sum(entry.bytes for entry in going))
        say(f"kd clean {override('output_dir', root)} {words} removes them: {freed}.")
    elif going:
        _remove(root, {entry.name for entry in going}, cfg.force)


def _going(found: Inventory, force: bool) -> list[Entry]:
    doubtful = {entry.name for entry in found.doubtful()}
    unused = {entry.name for entry in found.unused()} - (set() if force else doubtful)
    return [entry for entry in found.entries if entry.name in unused | (doubtful if force else set())]


def _say_why(found: Inventory, doubtful: list[Entry], root: Path, force: bool) -> None:
    """Names what nobody can be sure of, who uses it as far as that is known, and what could not be read."""
    what = "are among them" if force else "are kept (kd clean yes=true force=true removes them too)"
    say(f"A run outside {root}, or one that cannot be read, may use these, which {what}:")
    for entry in doubtful:
        users = ", ".join(user for user in entry.users if user in found.elsewhere)
        say(f"  {entry.name}{f' used by {shown(users)}' if users else ''}")
    for doubt in found.doubts:
        say(f"  {shown(doubt)}")


def _remove(root: Path, listed: set[str], force: bool) -> None:
    """Removes what was shown and still is not used."""
    store, freed, removed = Store(root), 0, 0
    held: list[str] = []
    failed: list[str] = []
    moved: list[tuple[Path, int]] = []
    with settled(root):  # no run begins to use one of them meanwhile
        for entry in _going(inventory(root), force):
            if entry.name not in listed:
                continue
            try:
                number, there = entry.bytes, store.put_aside(entry.folder)
            except OSError as error:
                failed.append(f"{entry.name}: {error.strerror}")
                continue
            if there is None:
                held.append(entry.name)
            else:
                moved.append((there, number))
    for folder, number in moved:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            failed.append(f"{folder}: {first_line(error)}")
        else:
            freed, removed = freed + number, removed + 1
    say(f"Removed {removed} folders: {decimal(freed)}.")
    for name in held:
        say(f"{name} is being made by another process: kept.")
    if failed:
        raise ArtifactError("Not all could be removed:\n  " + "\n  ".join(failed))
