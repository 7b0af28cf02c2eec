"""Images in folders, one folder a class: `train/`, `test/`, and where wanted `validation/` and `transfer/`.

Files are decoded by workers when they are asked for, scaled to cover a square of `size` and cut at its centre.
`transfer/` may hold images straight in it: they have no label.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from kd_cli.datasets.splits import assemble
from kd_cli.errors import DataError, must
from kd_cli.screen import as_utf8, shown
from kd_cli.types import UNLABELLED, Dataset, Split

EXTENSIONS = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"}


def _cores() -> int:
    """Processor cores that this process may use: torch warns of more workers than these."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode(path: str | Path, size: tuple[int, int], channels: int) -> Tensor:
    """One image as uint8 `[channels, height, width]`; OSError and the like if it cannot be decoded."""
    with Image.open(path) as file:
        upright = _eight_bits(ImageOps.exif_transpose(file)).convert("L" if channels == 1 else "RGB")
        image = ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.BILINEAR)
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(size[0], size[1], channels).permute(2, 0, 1).contiguous()


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bits: Pillow itself would cut everything above 255 off."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


class _Files(TorchDataset[Tensor]):
    def __init__(self, paths: list[str], size: int, channels: int) -> None:
        self.paths, self.size, self.channels = paths, size, channels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> Tensor:
        return decode(self.paths[position], (self.size, self.size), self.channels)


class ImageFiles:
    """Images on disk, decoded by `workers` processes."""

    def __init__(self, paths: list[str], crc: Tensor, sha: list[str], size: int, channels: int, workers: int) -> None:
        self.paths, self.crc, self.sha = paths, crc, sha
        self.size, self.channels, self.workers = size, channels, workers

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return self.channels, self.size, self.size

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        """Each batch, decoded ahead by the workers."""
        loader: DataLoader[Tensor] = DataLoader(
            _Files(self.paths, self.size, self.channels),
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=min(self.workers, _cores()),
            pin_memory=device.type == "cuda",
        )
        for images in loader:
            yield images.to(device, non_blocking=True)

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
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the files' digests and the way they are decoded."""
        return hashlib.sha256(f"{self.size} {self.channels} {' '.join(self.sha)}".encode()).hexdigest()


def image_folder(
    root: str, size: int = 224, channels: int = 3, workers: int = 2, validation: float = 0, seed: int = 0
) -> Dataset:
    """The data set below `root`; every file is decoded once, before any training, so that bad ones are named."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise must("dataset.size", "a whole number of pixels ≥ 1", size)
    if channels not in (1, 3):
        raise must("dataset.channels", "1 (grey) or 3 (colour)", channels)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise must("dataset.workers", "a whole number ≥ 0", workers)
    base = Path(root)
    for part in ("train", "test"):
        if not (base / part).is_dir():
            raise DataError(
                f"dataset.root must be a folder with train/ and test/, got {root!r}, where there is no {part}/. "
                "Lay it out as train/<class>/<image>, or give another dataset.root=<folder>."
            )
    classes = sorted(as_utf8(path.name) for path in (base / "train").iterdir() if path.is_dir())
    if not classes:
        raise DataError(f"{base / 'train'} must hold one folder for each class, got none.")
    listed = {part: _list(base / part, classes) for part in ("train", "validation", "transfer", "test")}
    bad: list[str] = []
    splits: dict[str, Split] = {}
    for part, files in listed.items():
        paths = [path for path, _ in files]
        scans = _scan(paths, size, channels)
        bad += [shown(f"{path}: {scan}") for path, scan in zip(paths, scans, strict=True) if isinstance(scan, str)]
        good = [scan for scan in scans if not isinstance(scan, str)]
        if len(good) == len(paths) > 0:
            images = ImageFiles(
                paths, torch.tensor([crc for crc, _ in good]), [sha for _, sha in good], size, channels, workers
            )
            splits[part] = Split(images, torch.tensor([label for _, label in files]), torch.arange(len(paths)))
    if bad:
        raise DataError(f"{len(bad)} image(s) cannot be decoded; mend or remove them:\n  " + "\n  ".join(bad))
    for part in ("train", "test"):
        if part not in splits:
            raise DataError(f"{base / part} holds no images ({', '.join(sorted(EXTENSIONS))}).")
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


def _list(folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    """Paths and labels below a split's folder, sorted; images straight in `transfer/` are unlabelled."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.rglob("*"), key=lambda path: [as_utf8(part) for part in path.parts]):
        if path.suffix.lower() not in EXTENSIONS or not path.is_file():
            continue
        inside = [as_utf8(part) for part in path.relative_to(folder).parts]
        if len(inside) == 1 and folder.name == "transfer":
            found.append((str(path), UNLABELLED))
        elif inside[0] in classes and len(inside) > 1:
            found.append((str(path), classes.index(inside[0])))
        else:
            raise DataError(f"{path} is in no class of {folder.parent / 'train'} ({', '.join(classes)}).")
    return found


def _scan(paths: list[str], size: int, channels: int) -> list[tuple[int, str] | str]:
    """CRC-32 and SHA-256 of each file, or why it cannot be decoded."""

    def scan(path: str) -> tuple[int, str] | str:
        try:
            decode(path, (size, size), channels)
            content = Path(path).read_bytes()
        except UnidentifiedImageError:
            return "not an image"
        except Exception as error:  # damaged headers make Pillow raise whatever the bytes lead it to
            return f"{error}"
        return zlib.crc32(content), hashlib.sha256(content).hexdigest()

    with ThreadPoolExecutor() as pool:  # Pillow decodes without holding the interpreter's lock
        return list(pool.map(scan, paths))
