"""Images in folders, one folder a class: `train/`, `test/`, and where wanted `validation/` and `transfer/`.

Every file is decoded once before any training, and kept if all fit into memory; otherwise threads decode it again when
it is asked for. `transfer/` may hold images straight in it: they have no label.
"""

import hashlib
import math
import os
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from kd_cli import ranges
from kd_cli.data.decoding import EXTENSIONS, VERSION, Unusable, decode, read_image
from kd_cli.data.folder import files_below, is_hidden
from kd_cli.data.inputs import Inputs
from kd_cli.data.resident import Resident
from kd_cli.data.samples import UNLABELLED, Dataset, Split
from kd_cli.data.spec import Spec, image_spec
from kd_cli.data.splits import LARGEST_IMAGE, assemble, same_form
from kd_cli.errors import DataError, Phrase, must, reading
from kd_cli.progress import log
from kd_cli.screen import as_utf8, shown

KEPT = 1 << 30  # bytes of pixels that stay in memory: 7,000 images of 224 × 224 in colour
AHEAD = 2  # batches
MOST_THREADS = 8  # each of which may hold an image of the largest size, unpacked


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ImageFiles:
    """Images on disk: `decoded` in memory, or decoded ahead by `workers` threads (0: by one, when asked for).

    Pillow decodes without holding the interpreter's lock, and threads need neither shared memory nor a start.
    """

    def __init__(
        self,
        paths: list[str],
        crc: Tensor,
        sha: list[str],
        size: int,
        channels: int,
        workers: int,
        decoded: Resident | None = None,
    ) -> None:
        self.paths, self.crc, self.sha = paths, crc, sha
        self.size, self.channels, self.workers, self.decoded = size, channels, workers, decoded

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def spec(self) -> Spec:
        """Images of one size."""
        return image_spec((self.channels, self.size, self.size))

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Inputs]:
        """Each batch; DataError where a file is no longer what it was."""
        if self.decoded is not None:
            yield from self.decoded.stream(batches, device)
            return
        ahead = AHEAD if self.workers else 0
        waiting: deque[list[Future[Tensor]]] = deque()
        pool = ThreadPoolExecutor(max(1, min(self.workers, _cores(), MOST_THREADS)))
        try:
            for positions in batches:
                waiting.append([pool.submit(self._decoded, k) for k in positions.tolist()])
                if len(waiting) > ahead:
                    yield _together(waiting.popleft(), device)
            while waiting:
                yield _together(waiting.popleft(), device)
        finally:
            pool.shutdown(cancel_futures=True)

    def _decoded(self, position: int) -> Tensor:
        path = self.paths[position]
        try:
            content = read_image(path)
            if zlib.crc32(content) != int(self.crc[position]):
                raise Unusable("changed")
            return decode(content, (self.size, self.size), self.channels)
        except Unusable as why:
            hint = "Put it back as it was: the same command then goes on."
            raise DataError(f"{path} could be decoded when the data were loaded, and now: {why}. {hint}") from why

    def checksums(self) -> Tensor:
        """CRC-32 of each file."""
        return self.crc

    def select(self, positions: Tensor) -> "ImageFiles":
        """The files at these positions."""
        chosen = positions.tolist()
        return ImageFiles(
            [self.paths[k] for k in chosen],
            self.crc[positions],
            [self.sha[k] for k in chosen],
            self.size,
            self.channels,
            self.workers,
            self.decoded.select(positions) if self.decoded is not None else None,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the files' digests and the way they are decoded."""
        how = f"{VERSION} {self.size} {self.channels}"
        return hashlib.sha256(f"{how} {' '.join(self.sha)}".encode()).hexdigest()


def _together(images: list[Future[Tensor]], device: torch.device) -> Tensor:
    return torch.stack([image.result() for image in images]).to(device)


def image_folder(
    root: str, size: int = 224, channels: int = 3, workers: int = 2, validation: float = 0, seed: int = 0
) -> Dataset:
    """The data set below `root`; every file is decoded once, before any training, so that bad ones are named."""
    if channels not in (1, 3):
        raise must(".dataset.channels", "1 (grey) or 3 (colour)", channels)
    ranges.whole_number(".dataset.size", size, 1, what="a whole number of pixels")
    if size > (largest := math.isqrt(LARGEST_IMAGE // channels)):
        raise must(".dataset.size", f"at most {largest} with dataset.channels={channels}", size)
    ranges.whole_number(".dataset.workers", workers, 0)
    with reading(root):
        classes, listed = _listing(root)
    keep = sum(map(len, listed.values())) * channels * size * size <= KEPT
    bad: list[str] = []
    splits = {
        part: Split(
            _scan([path for path, _ in files], size, channels, workers, keep, bad),
            torch.tensor([label for _, label in files]),
            torch.arange(len(files)),
        )
        for part, files in listed.items()
        if files
    }
    if bad:
        raise DataError(f"{len(bad)} image(s) cannot be decoded; mend or remove them:\n  " + "\n  ".join(bad))
    return assemble(
        "image_folder",
        splits["train"],
        splits["test"],
        classes,
        (channels, size, size),
        splits.get("validation", validation),
        seed,
        splits.get("transfer"),
    )


def _listing(root: str) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
    """The classes, and the paths and labels of each part. What is missing is refused, what is left out is told."""
    base = Path(root)
    for part in ("train", "test"):
        if not (base / part).is_dir():
            got = Phrase(f"{root!r}, where there is no {part}/")
            hint = "Lay it out as train/<class>/<image>, or give another {}=<folder>."
            raise DataError.must(".dataset.root", "a folder with train/ and test/", got, hint, ".dataset.root")
    classes = _classes(base / "train")
    others: list[Path] = []
    listed = {part: _list(base / part, classes, others) for part in ("train", "validation", "transfer", "test")}
    for part in ("train", "test"):
        if not listed[part]:
            raise DataError(f"{base / part} holds no images ({', '.join(sorted(EXTENSIONS))}).")
    filled = {label for _, label in listed["train"]}
    if empty := [name for label, name in enumerate(classes) if label not in filled]:
        raise DataError(
            f"{base / 'train'} must hold images ({', '.join(sorted(EXTENSIONS))}) of every class, got none of: "
            f"{', '.join(empty)}. Fill these folders, or remove them."
        )
    for part in ("validation", "test"):
        missing = [name for label, name in enumerate(classes) if label not in {of for _, of in listed[part]}]
        if listed[part] and missing:
            log.warning("%s holds no images of: %s", base / part, ", ".join(missing))
    if others:
        some = ", ".join(str(path) for path in others[:10]) + (", …" if len(others) > 10 else "")
        log.warning("%d file(s) below %s are no images by their names and are left out: %s", len(others), root, some)
    return classes, listed


def _classes(train: Path) -> list[str]:
    """The names of the folders in `train`, in the one form of Unicode in which they are compared."""
    found: dict[str, str] = {}
    for name in sorted(os.listdir(train)):
        if not (train / name).is_dir() or is_hidden(name):
            continue
        form = same_form(as_utf8(name))
        if form in found:
            both = f"{found[form]!a} and {name!a}"
            raise DataError(f"{train} must hold one folder for each class, got {both}, which read alike. Join them.")
        found[form] = name
    if not found:
        raise DataError(f"{train} must hold one folder for each class, got none.")
    return sorted(found)


def _list(folder: Path, classes: list[str], others: list[Path]) -> list[tuple[str, int]]:
    """Paths and labels below a split's folder, sorted; images straight in `transfer/` are unlabelled. The rest of the
    files is added to `others`.
    """
    if not folder.is_dir():
        return []
    found = []
    numbers = {name: number for number, name in enumerate(classes)}
    for name in sorted(os.listdir(folder)):
        if is_hidden(name):
            continue
        listing = files_below(folder / name)
        others += listing.others
        label = numbers.get(same_form(as_utf8(name))) if (folder / name).is_dir() else None
        if label is None and not (folder / name).is_dir() and folder.name == "transfer":
            label = UNLABELLED
        if label is None and listing.images:
            raise DataError(f"{listing.images[0]} is in no class of {folder.parent / 'train'} ({', '.join(classes)}).")
        found += [(str(path), label) for path in listing.images if label is not None]
    return found


def _scan(paths: list[str], size: int, channels: int, workers: int, keep: bool, bad: list[str]) -> ImageFiles:
    """These files with their checksums and, with `keep`, their pixels; what cannot be decoded is added to `bad`."""
    pixels = torch.empty(len(paths) if keep else 0, channels, size, size, dtype=torch.uint8)
    crc, sha = torch.zeros(len(paths), dtype=torch.int64), [""] * len(paths)

    def scan(position: int) -> str | None:
        try:
            content = read_image(paths[position])
            image = decode(content, (size, size), channels)
        except Unusable as why:
            return shown(f"{paths[position]}: {why}")
        if keep:
            pixels[position] = image
        crc[position], sha[position] = zlib.crc32(content), hashlib.sha256(content).hexdigest()
        return None

    with ThreadPoolExecutor(min(_cores(), MOST_THREADS)) as pool:
        bad += [why for why in pool.map(scan, range(len(paths))) if why]
    return ImageFiles(paths, crc, sha, size, channels, workers, Resident(pixels) if keep else None)
