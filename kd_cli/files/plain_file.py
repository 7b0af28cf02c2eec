"""Small files at places where anybody may have put anything: read with a bound, written whole or not at all."""

import os
import stat
from pathlib import Path

from kd_cli.errors import ArtifactError, ConfigError, reason
from kd_cli.files.disk import refusal

ASIDE = "rebuild=true moves it aside."


def read_plain(path: Path, most: int) -> bytes:
    """Return a plain file's content; ValueError for a pipe, a device, more than `most` bytes, or OSError."""
    if not stat.S_ISREG(path.stat().st_mode):  # not even opened: a device may act on that
        raise ValueError("it is no plain file")
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no plain file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError("it is too large")
    return content


def write(path: Path, text: str) -> None:
    """Writes a file so that it has its name only when it is complete; until then what was there stays."""
    working = path.with_name(f".{path.name}.{os.getpid()}")  # the same command may run twice at once
    try:
        working.unlink(missing_ok=True)  # of a process that was killed
        with working.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        working.replace(path)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    finally:
        working.unlink(missing_ok=True)


def unwritable(folder: Path, error: OSError) -> ConfigError:
    """Return the refusal of a folder in which this error came of writing."""
    return refusal(folder, OSError(error.errno, reason(error)))  # without the name that the file had meanwhile


def expect(path: Path, wanted: str, rebuild: bool) -> None:
    """Nothing, or a `file` or `folder` as wanted: else it is moved aside with `rebuild`; ArtifactError without."""
    if found := odd(path, wanted):
        if not rebuild:
            raise ArtifactError(f"{path} must be a {wanted} of kd, and is {found}.", ASIDE)
        aside(path)


def odd(path: Path, wanted: str) -> str:
    """Return what stands where a `file` or a `folder` belongs and is none, in words; empty where all is well."""
    fine = path.is_dir() if wanted == "folder" else path.is_file() and not path.is_symlink()
    if fine or not os.path.lexists(path):
        return ""
    if path.is_symlink():
        return "a link" if path.exists() else "a link that leads nowhere"
    return "a folder" if path.is_dir() else "a file" if path.is_file() else "neither file nor folder"


def aside(path: Path) -> Path:
    """Renames a file or folder to the first free `<name>.damaged-<n>`."""
    number = 1
    while os.path.lexists(there := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    return path.rename(there)
