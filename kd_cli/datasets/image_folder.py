"""Your own images: in folders named as splits and classes, or with a table or a pattern that says their classes.

Every file is decoded once before any training, and kept if all fit into memory; otherwise threads decode it again when
it is asked for. `transfer/` may hold images straight in it: they have no label.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from kd_cli import ranges
from kd_cli.data.apart import Apart
from kd_cli.data.decoding import EXTENSIONS
from kd_cli.data.image_files import Scan, Way
from kd_cli.data.labelling import labelled_layout
from kd_cli.data.layout import Kind, listed
from kd_cli.data.samples import Dataset, Split
from kd_cli.data.shades import KEY, Range, check_shades, likely
from kd_cli.data.splits import LARGEST_IMAGE, assemble
from kd_cli.data.understood import understood
from kd_cli.errors import DataError, must, reading
from kd_cli.progress import log

NAME = "image_folder"
IMAGES = Kind("image", EXTENSIONS)
KEPT = 1 << 30  # bytes of pixels that stay in memory: 7,000 images of 224 × 224 in colour


def image_folder(
    root: str,
    size: int | Sequence[int] = 224,
    channels: int = 3,
    workers: int = 2,
    validation: float = 0,
    seed: int = 0,
    test: float | None = None,
    group: str | None = None,
    labels: str | None = None,
    label: str | None = None,
    pattern: str | None = None,
    duplicates: str = "refuse",
    range: Range = None,
) -> Dataset:
    """Return the data set below `root`; every file is decoded once, before any training, so that bad ones are named."""
    apart, way = Apart(test, validation, seed, group, duplicates), _way(size, channels, workers, range)
    apart.check()
    with reading(root):
        layout = labelled_layout(root, IMAGES, labels, label, pattern)
    height, width = way.size
    keep = sum(map(len, layout.parts.values())) * channels * height * width <= KEPT
    scan = Scan()
    splits = {
        part: Split(
            scan.files(files, way, keep), torch.tensor([file.label for file in files]), torch.arange(len(files))
        )
        for part, files in layout.parts.items()
    }
    if scan.bad:
        raise _undecodable(scan)
    splits, remarks = apart.split(splits, layout.classes)
    if scan.flat:
        remarks.append(f"{len(scan.flat):,} of hardly more than one shade ({listed(scan.flat)})")
    for part in ("validation", "test"):
        if part in splits and (missing := _without(splits[part], layout.classes)):
            where = layout.places.get(part, f"the {part} split")
            log.warning("%s holds no images of: %s", where, ", ".join(missing))
    if layout.others:
        some = listed([str(path) for path in layout.others])
        log.warning(
            "%d file(s) below %s are no images by their names and are left out: %s", len(layout.others), root, some
        )
    dataset = assemble(
        NAME,
        splits["train"],
        splits["test"],
        layout.classes,
        way.spec,
        splits.get("validation", 0),
        seed,
        splits.get("transfer"),
    )
    return replace(dataset, about=understood(root, IMAGES, layout, splits, scan.formats, scan.extent, remarks))


def _way(size: int | Sequence[int], channels: int, workers: int, scale: Range) -> Way:
    """How images are to be decoded; ConfigError for what no image could be."""
    if channels not in (1, 3):
        raise must(".dataset.channels", "1 (grey) or 3 (colour)", channels)
    sides: list[Any] = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(sides) != 2 or not all(ranges.is_whole(side, 1) for side in sides):
        raise must(".dataset.size", "a whole number of pixels ≥ 1, or [height, width]", size)
    height, width = sides
    if height * width > (most := LARGEST_IMAGE // channels):
        rule = f"at most {math.isqrt(most)}" if size == height else f"[height, width] of at most {most:,} pixels"
        raise must(".dataset.size", f"{rule} with dataset.channels={channels}", size)
    ranges.whole_number(".dataset.workers", workers, 0)
    check_shades(scale)
    return Way((height, width), channels, workers, tuple(scale) if isinstance(scale, list) else scale)


def _undecodable(scan: Scan) -> DataError:
    said = f"{len(scan.bad)} image(s) cannot be decoded; mend or remove them:\n  " + "\n  ".join(scan.bad)
    if not scan.unscaled:
        return DataError(said)
    low, high = likely(scan.unscaled)
    of_them = f"the values of {len(scan.unscaled)} of them to 0 … 255"
    hint = f"{{}}=[{low:g},{high:g}] would scale {of_them}, {{}}=image each from its own darkest to its lightest."
    return DataError(f"{said}\n", hint, KEY, KEY)


def _without(split: Split, classes: Sequence[str]) -> list[str]:
    there = set(split.labels.tolist())
    return [name for number, name in enumerate(classes) if number not in there]
