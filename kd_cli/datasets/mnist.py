"""MNIST (LeCun, Cortes and Burges) and Fashion-MNIST (Xiao, Rasul and Vollgraf 2017) from their IDX files."""

import gzip
import hashlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kd_cli.datasets.resident import Resident
from kd_cli.datasets.splits import assemble, whole
from kd_cli.errors import DataError
from kd_cli.types import Dataset

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# SHA-256 of the original, unpacked MNIST files: a changed pixel is as bad as a cut-off file, and harder to see.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
ORIGINAL_COUNTS = (60_000, 10_000)
FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot")


def mnist(root: str, download: bool = True, verify: bool = True, validation: float = 0, seed: int = 0) -> Dataset:
    """MNIST. Files of the original size must be the originals unless `verify` is false."""
    digests = MNIST_SHA256 if verify else {}
    return _load("mnist", "MNIST", [str(k) for k in range(10)], root, download, digests, validation, seed)


def fashion_mnist(root: str, download: bool = True, validation: float = 0, seed: int = 0) -> Dataset:
    """Fashion-MNIST."""
    return _load("fashion_mnist", "FashionMNIST", FASHION, root, download, {}, validation, seed)


def read_idx(path: Path, dimensions: int, sha256: str | None = None) -> Tensor:
    """One IDX file of unsigned bytes, gzipped or not, as uint8 `[N]` or `[N, height, width]`; DataError if damaged."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged and cannot be unpacked ({error}). Fetch it again.") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(f"{path} is not an IDX file of {dimensions} dimension(s) of unsigned bytes. Fetch it again.")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise DataError(f"{path} is truncated or altered: {len(content):,} bytes, {expected:,} by its header.")
    if sha256 and shape[0] in ORIGINAL_COUNTS and hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"{path} is altered: it differs from the original MNIST file. "
            "Fetch it again, or set dataset.verify=false for data of your own in this format."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


def _load(
    name: str,
    folder: str,
    classes: Sequence[str],
    root: str,
    download: bool,
    digests: dict[str, str],
    validation: float,
    seed: int,
) -> Dataset:
    paths = _find(Path(root), folder)
    if len(paths) < len(FILES) and download:
        _download(folder, Path(root))
        paths = _find(Path(root), folder)
    if missing := [file for file in FILES if file not in paths]:
        raise DataError(_where(name, folder, root, missing))
    train_images, train_labels, test_images, test_labels = (
        read_idx(paths[file], 3 if "images" in file else 1, digests.get(file)) for file in FILES
    )
    for images, labels, file in ((train_images, train_labels, FILES[0]), (test_images, test_labels, FILES[2])):
        if len(images) != len(labels):
            raise DataError(f"{paths[file]} holds {len(images)} images, but there are {len(labels)} labels beside it.")
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(f"{paths[FILES[0]]} and {paths[FILES[2]]} hold images of different sizes.")
    train = whole(Resident(train_images.unsqueeze(1)), train_labels)
    test = whole(Resident(test_images.unsqueeze(1)), test_labels)
    height, width = train_images.shape[1:]
    return assemble(name, train, test, classes, (1, height, width), validation, seed)


def _find(root: Path, folder: str) -> dict[str, Path]:
    """The IDX files that are there: in a plain folder, or in torchvision's layout below it."""
    found = {}
    for file in FILES:
        for path in (root / file, root / f"{file}.gz", *_raw(root, folder, file)):
            if path.is_file():
                found[file] = path
                break
    return found


def _raw(root: Path, folder: str, file: str) -> tuple[Path, Path]:
    return root / folder / "raw" / file, root / folder / "raw" / f"{file}.gz"


def _download(folder: str, root: Path) -> None:
    from torchvision import datasets  # imported here alone: it takes a second

    try:
        getattr(datasets, folder)(str(root), download=True)
    except (OSError, RuntimeError):
        return  # the caller says what is missing and where to put it


def _where(name: str, folder: str, root: str, missing: list[str]) -> str:
    return (
        f"dataset.root must be a folder that holds {name}, got {root!r}, where there is no {', '.join(missing)} "
        f"(.gz or unpacked), and it was not downloaded. Put the four files {', '.join(FILES)} "
        f"into {root} or {root}/{folder}/raw, or give another dataset.root=<folder>."
    )
