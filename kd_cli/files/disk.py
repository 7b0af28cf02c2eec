"""What kd itself writes: whatever the disk refuses is told as such, with the path and the disk's own reason."""

import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from kd_cli.errors import ConfigError, KdError, must, reason

FULL = "Its disk is full. Make room there: the same command then goes on."


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Around what is written at or below `path`, and nothing else: ConfigError for what the disk refuses."""
    try:
        yield
    except KdError:
        raise
    except (OSError, SafetensorError) as error:  # safetensors says in words what the system said
        raise refusal(path, error) from error


def refusal(path: Path, error: OSError | SafetensorError) -> ConfigError:
    """Return what to tell of a disk that refused to write at or below `path`."""
    where = str(getattr(error, "filename", None) or path)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error):
        return must("output_dir", "a folder with room", where, FULL)
    return must("output_dir", "a folder that can be written", where, f"{reason(error)}.")


def sync(path: Path) -> None:
    """Returns once a file or a folder is on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def only(folder: Path, names: Collection[str]) -> None:
    """Removes from an unfinished folder everything but the plain files of these names."""
    for path in folder.iterdir():
        plain = path.is_file() and not path.is_symlink()
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not plain or path.name not in names:
            path.unlink()
