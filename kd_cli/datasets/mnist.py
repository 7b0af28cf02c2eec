"""MNIST (LeCun, Cortes and Burges) and Fashion-MNIST (Xiao, Rasul and Vollgraf 2017) from their IDX files."""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kd_cli.data.resident import Resident
from kd_cli.data.samples import Dataset
from kd_cli.data.splits import LARGEST_IMAGE, MOST_SAMPLES, assemble, whole
from kd_cli.errors import DataError, Phrase, first_line, reading

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# SHA-256 of the original, unpacked MNIST files: a changed pixel is as bad as a cut-off file, and harder to see.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
ORIGINAL_COUNTS = (60_000, 10_000)
LARGEST = 1 << 30  # bytes of a file, unpacked: EMNIST's largest has 0.6 GB
FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot")


def mnist(root: str, download: bool = True, verify: bool = True, validation: float = 0, seed: int = 0) -> Dataset:
    """MNIST. Files of the original size must be the originals unless `verify` is false."""
    return _load("mnist", "MNIST", [str(k) for k in range(10)], root, download, verify, validation, seed)


def fashion_mnist(root: str, download: bool = True, validation: float = 0, seed: int = 0) -> Dataset:
    """Fashion-MNIST. The original files of MNIST, which have the same names, are refused."""
    return _load("fashion_mnist", "FashionMNIST", FASHION, root, download, True, validation, seed)


def read_idx(path: Path, dimensions: int) -> Tensor:
    """One IDX file of unsigned bytes, gzipped or not, as uint8 `[N]` or `[N, height, width]`; DataError if damaged.

    No more is unpacked than the header announces.
    """
    with reading(path):
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                header = file.read(4 + 4 * dimensions)
                if len(header) < 4 + 4 * dimensions or header[:4] != bytes([0, 0, 8, dimensions]):
                    kind = f"an IDX file of {dimensions} dimension(s) of unsigned bytes"
                    raise DataError(f"{path} is not {kind}. Fetch it again.")
                shape = struct.unpack(f">{dimensions}I", header[4:])
                if shape[0] > MOST_SAMPLES or math.prod(shape[1:]) > LARGEST_IMAGE:
                    most = f"{MOST_SAMPLES:,} samples of {LARGEST_IMAGE:,} pixels"
                    raise DataError(f"{path} is truncated or altered: at most {most}, {list(shape)} by its header.")
                expected = math.prod(shape)
                content = file.read(min(expected, LARGEST) + 1)  # to its end, where gzip's check sum is
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path} is damaged and cannot be unpacked ({error}). Fetch it again.") from error
    if len(content) != expected or expected > LARGEST:
        found = f"{len(header) + len(content):,} bytes" + (" or more" if len(content) > min(expected, LARGEST) else "")
        limit = "" if expected <= LARGEST else f" (at most {LARGEST:,} are read)"
        raise DataError(f"{path} is truncated or altered: {found}{limit}, {len(header) + expected:,} by its header.")
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(shape).copy())


def _sha256(values: Tensor) -> str:
    """The digest of the unpacked IDX file that holds these values."""
    sha = hashlib.sha256(bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape))
    sha.update(values.reshape(-1).numpy().data)
    return sha.hexdigest()


def _check_origin(name: str, path: Path, file: str, values: Tensor, verify: bool) -> None:
    """DataError for a file of the original size that is not the data set's own."""
    if len(values) not in ORIGINAL_COUNTS or not (verify or name != "mnist"):
        return
    original = _sha256(values) == MNIST_SHA256[file]
    if original and name != "mnist":
        hint = "Choose {}=mnist, or another {}.root=…."
        raise DataError(f"{path} is a file of MNIST, not of {name}.", hint, ".dataset", ".dataset")
    if not original and name == "mnist":
        hint = "Fetch it again, or set {}=false for data of your own in this format."
        raise DataError(f"{path} is altered: it differs from the original MNIST file.", hint, ".dataset.verify")


def _load(
    name: str,
    folder: str,
    classes: Sequence[str],
    root: str,
    download: bool,
    verify: bool,
    validation: float,
    seed: int,
) -> Dataset:
    with reading(root):
        paths, failed = _find(Path(root), folder), ""
        if len(paths) < len(FILES) and download:
            failed = _download(folder, Path(root))
            paths = _find(Path(root), folder)
    if missing := [file for file in FILES if file not in paths]:
        raise _nothing(name, folder, root, missing, failed)
    parts = [read_idx(paths[file], 3 if "images" in file else 1) for file in FILES]
    for file, values in zip(FILES, parts, strict=True):
        _check_origin(name, paths[file], file, values, verify)
    train_images, train_labels, test_images, test_labels = parts
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
    """The IDX files that are there: in torchvision's layout, which names the data set, or in a plain folder."""
    found = {}
    for file in FILES:
        for path in (*_raw(root, folder, file), root / file, root / f"{file}.gz"):
            if path.is_file():
                found[file] = path
                break
    return found


def _raw(root: Path, folder: str, file: str) -> tuple[Path, Path]:
    return root / folder / "raw" / file, root / folder / "raw" / f"{file}.gz"


def _download(folder: str, root: Path) -> str:
    """Fetches the published files; returns why that failed, if it did."""
    from torchvision import datasets  # imported here alone: it takes a second

    try:
        getattr(datasets, folder)(str(root), download=True)
    except (OSError, RuntimeError) as error:
        return f" ({first_line(error)})"
    return ""


def _nothing(name: str, folder: str, root: str, missing: list[str], failed: str) -> DataError:
    key, files = ".dataset.root", f"{', '.join(missing)} (.gz or unpacked)"
    got = Phrase(f"{root!r}, where there is no {files}, and it was not downloaded{failed}")
    into = f"Put the four files {', '.join(FILES)} into {root} or {root}/{folder}/raw, or give another {{}}=<folder>."
    return DataError.must(key, f"a folder that holds {name}", got, into, key)
