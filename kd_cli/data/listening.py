"""Every sound of a data set read once, before any work: what cannot be used is named, what was computed is kept."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kd_cli.data.heard import Heard
from kd_cli.data.hearing import Hearing
from kd_cli.data.shades import Unusable
from kd_cli.data.sounds import VERSION, centred, decode_sound, read_sound, soundfile, whole_sound
from kd_cli.errors import DataError
from kd_cli.progress import log
from kd_cli.screen import shown

MOST_THREADS = 8
LARGEST = 1 << 35  # bytes of all sounds as they are heard
Made = TypeVar("Made")


def hear_all(files: Sequence[tuple[str, Path]], hearing: Hearing, cache: Path | None) -> Heard:
    """Return the sounds in these files, by their names. What was computed of the same bytes in the same way before is
    taken from `cache`, and else left there, unless the folder that is to hold it is not there. DataError names every
    file that cannot be used.
    """
    soundfile()  # absent: said before anything is read
    names, paths = tuple(name for name, _ in files), [path for _, path in files]
    sha = tuple(_each(paths, lambda content: hashlib.sha256(content).hexdigest()))
    whole = hearing.context is None
    stored = hearing.stored() | ({} if whole else {"seconds": None, "context": "frames"})
    about = json.dumps([VERSION, stored, sha])
    name = hashlib.sha256(about.encode()).hexdigest()
    there = cache / f"{name[:16]}.safetensors" if cache is not None else None
    if there is not None and (found := _stored(there, name)) is not None:
        log.info("%d sounds as they were heard before: %s", len(paths), there)
        return Heard(names, sha, *found)

    def hear(content: bytes) -> tuple[Tensor, int]:
        wave = decode_sound(content, hearing.rate)
        if whole:
            return whole_sound(wave, hearing)
        made = centred(wave, hearing).T.contiguous()
        return made, len(made)

    parts = _each(paths, hear)
    if sum(part.nbytes for part, _ in parts) > LARGEST:
        raise DataError.must(".dataset.seconds", f"such that the sounds take at most {LARGEST >> 30} GiB", hearing)
    values = torch.stack([part for part, _ in parts]) if whole else torch.cat([part for part, _ in parts])
    lengths = torch.tensor([length for _, length in parts])
    if there is not None:
        _store(there, name, values, lengths)
    return Heard(names, sha, values, lengths)


def _each(paths: Sequence[Path], make: Callable[[bytes], Made]) -> list[Made]:
    """What `make` makes of each file's bytes; DataError with a line for each that is Unusable."""
    bad: list[str] = []

    def one(path: Path) -> Made | None:
        try:
            return make(read_sound(path))
        except Unusable as why:
            bad.append(shown(f"{path}: {why}"))
            return None

    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as pool:
        made = list(pool.map(one, paths))
    if bad:
        raise DataError(f"{len(bad)} sound(s) cannot be used; mend or remove them:\n  " + "\n  ".join(sorted(bad)))
    return [each for each in made if each is not None]


def _stored(path: Path, name: str) -> tuple[Tensor, Tensor] | None:
    """What is kept there, if it is whole."""
    try:
        with safe_open(path, "pt") as file:
            values, lengths = file.get_tensor("values"), file.get_tensor("lengths")
            about = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return (values, lengths) if about.get("of") == name and about.get("digest") == _digest(values, lengths) else None


def _store(path: Path, name: str, values: Tensor, lengths: Tensor) -> None:
    """Keeps it, whole or not at all; a folder that cannot be written costs time the next time, and nothing else."""
    working = path.with_name(f".{path.name}.{os.getpid()}")
    about = {"format": "pt", "of": name, "digest": _digest(values, lengths)}
    try:
        path.parent.mkdir(exist_ok=True)
        save_file({"values": values, "lengths": lengths}, working, about)
        working.replace(path)
    except (OSError, SafetensorError):
        log.info("the sounds as they are heard are not kept: %s cannot be written", path.parent)
    finally:
        working.unlink(missing_ok=True)


def _digest(values: Tensor, lengths: Tensor) -> str:
    found = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
    for each in (values, lengths):
        found.update(each.contiguous().view(torch.uint8).numpy().data if each.numel() else b"")
    return found.hexdigest()
