"""Files as the file-type classifier magika (Fratantonio et al. 2024) sees them: the bytes of their beginnings and ends.

They have no labels: who names their types is the teacher. What lies on every machine serves: Python's own files, and
those of the packages that are installed.
"""

import hashlib
import json
import os
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_cli import ranges
from kd_cli.data.folder import is_hidden
from kd_cli.data.resident import Resident
from kd_cli.data.samples import UNLABELLED, Dataset, Split
from kd_cli.data.spec import Spec
from kd_cli.data.splits import carve, fingerprint, whole
from kd_cli.errors import DataError, reading
from kd_cli.progress import log

PYTHONS = ("stdlib", "purelib", "platlib")
SMALLEST = 8  # bytes: of smaller files magika says nothing by its network
DRAWN = 1 << 32


def magika(
    root: str | None = None, per_suffix: int = 1000, test: float = 0.2, validation: float = 0, seed: int = 0
) -> Dataset:
    """Token ids `[2048]`, a byte each and 256 where a file is shorter, of the files below `root` (None: this Python's
    own), at most `per_suffix` of one name's ending. What looks alike to the classifier is one sample. A sample's digest
    decides whether it is for testing, so that the same file is in the same split on every machine.
    """
    ranges.whole_number(".dataset.per_suffix", per_suffix, 1)
    ranges.number(".dataset.test", test, above=0, below=1)
    ranges.whole_number(".dataset.seed", seed, 0)
    about = _about()
    folders = [Path(root)] if root is not None else [Path(sysconfig.get_path(name)) for name in PYTHONS]
    seen: dict[str, np.ndarray[Any, Any]] = {}
    unread = 0
    for path in _drawn(folders, per_suffix):
        try:
            tokens = window_of(path, about)
        except OSError:  # it may be another's, or gone: there are others
            unread += 1
            continue
        if tokens is not None:
            seen.setdefault(hashlib.sha256(tokens.tobytes()).hexdigest(), tokens)
    if len(seen) < 2:
        raise DataError.must(".dataset.root", f"a folder with files of at least {SMALLEST} bytes", str(root))
    digests = sorted(seen)
    spec = Spec("text", (about["beg_size"] + about["end_size"],), vocabulary=about["padding_token"] + 1)
    samples = Resident(torch.from_numpy(np.stack([seen[digest] for digest in digests])), spec)
    everything = whole(samples, torch.full((len(digests),), UNLABELLED))
    held_out = torch.tensor([int(digest[:8], 16) < test * DRAWN for digest in digests])
    if held_out.all() or not held_out.any():
        raise DataError.must(".dataset.test", f"such that {len(digests)} files are for training and for testing", test)
    train, validated = carve(everything.select((~held_out).nonzero()[:, 0]), validation, seed)
    parts = train, validated, everything.select(held_out.nonzero()[:, 0])
    log.info("%d different files, %d of them for testing%s", len(digests), len(parts[2]), _told(unread))
    return _put_together(parts, tuple(about["target_labels_space"]), spec)


def window_of(path: Path, about: dict[str, Any]) -> "np.ndarray[Any, Any] | None":
    """Return what the classifier is shown of a file, int16; None of one too small for it. White space before the first
    byte and after the last one is left out.
    """
    size, block = path.stat().st_size, about["block_size"]
    if size < SMALLEST:
        return None
    with path.open("rb") as file:
        first = file.read(block).lstrip()[: about["beg_size"]]
        file.seek(max(0, size - block))
        last = file.read(block).rstrip()[-about["end_size"] :]
    tokens = np.full(about["beg_size"] + about["end_size"], about["padding_token"], dtype=np.int16)
    tokens[: len(first)] = np.frombuffer(first, dtype=np.uint8)
    tokens[len(tokens) - len(last) :] = np.frombuffer(last, dtype=np.uint8)
    return tokens


def _about() -> dict[str, Any]:
    """What the installed package says of its network."""
    found = find_spec("magika")
    folders = found.submodule_search_locations if found is not None else None
    configs = sorted(Path(folder, "models") for folder in folders or ())
    paths = [path for folder in configs for path in sorted(folder.glob("*/config.min.json"))]
    if not paths:
        raise DataError("dataset=magika needs the package magika, whose classes it has: pip install magika.")
    read: dict[str, Any] = json.loads(paths[-1].read_text("utf-8"))
    return read


def _drawn(folders: list[Path], most: int) -> list[Path]:
    """At most so many files of each suffix: those whose places have the smallest digests, so that which they are is
    drawn, and is the same wherever the folder lies.
    """
    found: dict[str, dict[str, Path]] = {}
    for place, path in _files(folders):
        drawn = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()
        found.setdefault(path.suffix.lower(), {}).setdefault(drawn, path)
    return [ways[key] for _, ways in sorted(found.items()) for key in sorted(ways)[:most]]


def _files(folders: list[Path]) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        with reading(folder):
            os.listdir(folder)
        for where, below, files in os.walk(folder):
            below[:] = [name for name in below if not name.startswith(".")]
            for name in files:
                path = Path(where, name)
                if not is_hidden(name) and path.is_file():
                    yield path.relative_to(folder).as_posix(), path


def _told(unread: int) -> str:
    return f"; {unread} could not be read" if unread else ""


def _put_together(parts: tuple[Split, Split | None, Split], classes: tuple[str, ...], spec: Spec) -> Dataset:
    train, validation, test = parts
    digests = "".join(fingerprint(split) for split in parts if split is not None)
    return Dataset(
        "magika", train, validation, train, test, classes, spec, hashlib.sha256(digests.encode()).hexdigest()
    )
