"""Which files of a folder are of one kind: by their names, below links too, without what systems leave there."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from kd_cli.errors import DataError, reason

# Beside hidden names. Synology's thumbnails, macOS' halves of a zip, Windows' caches and bin.
SYSTEMS = frozenset(
    name.casefold()
    for name in ("@eaDir", "__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "lost+found")
)


@dataclass(frozen=True)
class Listing:
    """The files below a folder, sorted, each real folder once: `wanted` by their endings, and all `others`."""

    wanted: list[Path]
    others: list[Path]


def is_hidden(name: str) -> bool:
    """Return whether a file or a folder of this name is not a person's."""
    return name.startswith(".") or name.casefold() in SYSTEMS


def visible(folder: Path) -> list[str]:
    """Return the names in a folder that are a person's, sorted."""
    return sorted(name for name in os.listdir(folder) if not is_hidden(name))


def files_below(folder: Path, endings: Collection[str]) -> Listing:
    """Return every file below `folder` (or the file itself) that is not hidden, those `wanted` whose names end in one
    of `endings` (`.png`, lower case); DataError where a folder cannot be read.
    """
    found = [] if folder.is_dir() else [folder]
    unread: list[OSError] = []
    seen = set()
    for where, folders, files in os.walk(folder, followlinks=True, onerror=unread.append) if not found else ():
        about = os.stat(where)
        if (about.st_dev, about.st_ino) in seen:  # a link may lead back up
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        found += [Path(where, name) for name in files if not is_hidden(name)]
    if unread:
        listed = "".join(f"\n  {error.filename}: {reason(error)}" for error in unread)
        raise DataError(f"{len(unread)} folder(s) cannot be read:{listed}")
    named = [(path, path.suffix.lower() in endings) for path in sorted(found)]
    wanted, others = ([path for path, fits in named if fits is asked] for asked in (True, False))
    if lost := [path for path in others if path.is_symlink() and not path.exists()]:  # was it a folder of images?
        raise DataError(f"{len(lost)} link(s) lead nowhere; mend or remove them:" + "".join(f"\n  {p}" for p in lost))
    return Listing(wanted, others)
