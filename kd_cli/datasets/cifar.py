"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the published python archive or from the binary version."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_cli.data.resident import Resident
from kd_cli.data.samples import Dataset, Split
from kd_cli.data.splits import assemble, whole
from kd_cli.errors import DataError, Phrase, first_line, reading

CIFAR10_CLASSES: tuple[str, ...] = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
PIXELS = 3 * 32 * 32
LARGEST = 1 << 30  # bytes of a file: six times the largest published one


def cifar10(root: str, download: bool = True, validation: float = 0, seed: int = 0) -> Dataset:
    """CIFAR-10: `cifar-10-batches-py` (torchvision's layout) or `cifar-10-batches-bin`."""
    train_files = [f"data_batch_{k}.bin" for k in range(1, 6)]
    binary, classes = Path(root) / "cifar-10-batches-bin", CIFAR10_CLASSES
    with reading(root):
        if binary.is_dir():
            train, test = _read_binary(binary, train_files, 1), _read_binary(binary, ["test_batch.bin"], 1)
        else:
            train, test, classes = _read_python("CIFAR10", root, download)
    return assemble("cifar10", train, test, classes, (3, 32, 32), validation, seed)


def cifar100(root: str, download: bool = True, validation: float = 0, seed: int = 0) -> Dataset:
    """CIFAR-100, fine labels: `cifar-100-python` (torchvision's layout) or `cifar-100-binary`."""
    binary = Path(root) / "cifar-100-binary"
    with reading(root):
        if binary.is_dir():
            train, test = _read_binary(binary, ["train.bin"], 2), _read_binary(binary, ["test.bin"], 2)
            names = binary / "fine_label_names.txt"
            classes = tuple(_words(names) if names.is_file() else (str(k) for k in range(100)))
            if len(classes) != 100:
                raise DataError(f"{names} must name 100 classes, got {len(classes)}. Unpack the binary version again.")
        else:
            train, test, classes = _read_python("CIFAR100", root, download)
    return assemble("cifar100", train, test, classes, (3, 32, 32), validation, seed)


def _read_binary(folder: Path, files: list[str], label_bytes: int) -> Split:
    """Records of `label_bytes` labels (the last one counts) and 3 × 32 × 32 bytes, red plane first."""
    record = label_bytes + PIXELS
    rows = []
    for name in files:
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing. Unpack the binary version again, or remove {folder}.")
        size = path.stat().st_size
        if size == 0 or size % record or size > LARGEST:
            limit = f" (at most {LARGEST:,} are read)" if size > LARGEST else ""
            raise DataError(f"{path} is truncated or altered: {size:,} bytes{limit} are not whole records of {record}.")
        rows.append(np.fromfile(path, np.uint8).reshape(-1, record))
    table = torch.from_numpy(np.concatenate(rows))
    return whole(Resident(table[:, label_bytes:].reshape(-1, 3, 32, 32)), table[:, label_bytes - 1])


def _words(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(1 << 16).split()


def _read_python(name: str, root: str, download: bool) -> tuple[Split, Split, tuple[str, ...]]:
    """The pickled batches, which torchvision opens only if their published MD5 matches."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    kind: Any = getattr(datasets, name)
    folder = Path(root) / kind.base_folder
    listed = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
    for file, md5 in listed:
        if (folder / file).is_file() and not check_integrity(str(folder / file), md5):
            raise DataError(
                f"{folder / file} is truncated or altered: its MD5 is not the published one. Fetch it again."
            )
    if missing := [file for file, _ in listed if not (folder / file).is_file()]:
        failed = ""
        if download:
            try:
                kind(root, download=True)
                missing = []
            except (OSError, RuntimeError) as error:
                failed = f" ({first_line(error)})"
        if missing:
            lacks = f"where there is no {kind.base_folder}/{missing[0]}, and it was not downloaded{failed}"
            into = f"Unpack {kind.filename} (or the binary version) into {root}, or give another {{}}=<folder>."
            got = Phrase(f"{root!r}, {lacks}")
            raise DataError.must(".dataset.root", f"a folder that holds {name}", got, into, ".dataset.root")
    parts = [kind(root, train=train) for train in (True, False)]
    train, test = (
        whole(Resident(torch.from_numpy(part.data).permute(0, 3, 1, 2)), torch.tensor(part.targets)) for part in parts
    )
    return train, test, tuple(parts[0].classes)
