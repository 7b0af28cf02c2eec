import os
import pickle
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from damage import flip_byte
from pixels import pixels_of

from kd_cli.datasets.cifar import CIFAR10_CLASSES, cifar10, cifar100
from kd_cli.errors import DataError


def records(count: int, labels: tuple[int, ...], seed: int) -> np.ndarray:
    """Rows of the binary version: `labels` is the number of values of each label byte."""
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, values, (count, 1), dtype=np.uint8) for values in labels]
    return np.concatenate([*columns, rng.integers(0, 256, (count, 3072), dtype=np.uint8)], axis=1)


def lay_binary(root: Path, hundred: bool) -> dict[str, np.ndarray]:
    folder = root / ("cifar-100-binary" if hundred else "cifar-10-batches-bin")
    folder.mkdir()
    train, test = (["train.bin"], "test.bin") if hundred else ([f"data_batch_{k}.bin" for k in range(1, 6)], None)
    files = {
        name: records(4, (20, 100) if hundred else (10,), seed)
        for seed, name in enumerate([*train, test or "test_batch.bin"])
    }
    for name, rows in files.items():
        rows.tofile(folder / name)
    return files


@pytest.mark.parametrize(("load", "hundred"), [(cifar10, False), (cifar100, True)])
def test_the_binary_version_of_cifar(tmp_path, load, hundred):
    *train, test = lay_binary(tmp_path, hundred).values()
    dataset = load(str(tmp_path), download=False)
    label = 1 if hundred else 0  # the coarse label comes first
    for split, rows in ((dataset.train, np.concatenate(train)), (dataset.test, test)):
        assert split.labels.tolist() == rows[:, label].tolist()
        assert torch.equal(pixels_of(split), torch.from_numpy(rows[:, label + 1 :].reshape(-1, 3, 32, 32)))
    assert dataset.spec.shape == (3, 32, 32)
    assert dataset.classes == (tuple(str(k) for k in range(100)) if hundred else CIFAR10_CLASSES)


def test_the_binary_version_of_cifar100_brings_its_class_names(tmp_path):
    lay_binary(tmp_path, hundred=True)
    names = [f"kind-{k}" for k in range(100)]
    (tmp_path / "cifar-100-binary" / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    assert cifar100(str(tmp_path), download=False).classes == tuple(names)


def test_one_cifar_is_not_the_other(tmp_path):
    lay_binary(tmp_path, hundred=True)
    with pytest.raises(DataError, match=r"^dataset\.root must be a folder that holds CIFAR10, got "):
        cifar10(str(tmp_path), download=False)
    (tmp_path / "cifar-100-binary").rename(tmp_path / "cifar-10-batches-bin")
    with pytest.raises(DataError, match=r"data_batch_1\.bin is missing"):
        cifar10(str(tmp_path), download=False)


def test_too_few_class_names_of_cifar100_are_refused(tmp_path):
    lay_binary(tmp_path, hundred=True)
    names = tmp_path / "cifar-100-binary" / "fine_label_names.txt"
    names.write_text("apple\n")
    with pytest.raises(DataError, match=rf"^{names} must name 100 classes, got 1\."):
        cifar100(str(tmp_path), download=False)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: os.truncate(path, 3073 << 30), "is truncated or altered: 3,299,608,625,152 bytes (at most"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is truncated or altered: 12,291 bytes are not whole"),
        (lambda path: path.write_bytes(b""), "is truncated or altered: 0 bytes are not whole records of 3073."),
        (Path.unlink, "is missing. Unpack the binary version again, or remove "),
    ],
    ids=["a terabyte", "truncated", "empty", "missing"],
)
def test_a_damaged_binary_file_of_cifar_is_refused_by_name(tmp_path, harm, message):
    lay_binary(tmp_path, hundred=False)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    harm(path)
    with pytest.raises(DataError) as refusal:
        cifar10(str(tmp_path), download=False)
    assert str(refusal.value).startswith(f"{path} {message}")


def test_a_label_outside_cifars_classes_is_refused(tmp_path):
    lay_binary(tmp_path, hundred=False)
    flip_byte(tmp_path / "cifar-10-batches-bin" / "test_batch.bin", 0)
    with pytest.raises(DataError, match=r"^cifar10: a label in the test split is 2\d\d, outside 0 … 9\.$"):
        cifar10(str(tmp_path), download=False)


@pytest.fixture
def python_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], dict[str, np.ndarray]]:
    """Writes the pickled version, and makes torchvision's lists of published digests those of the written files."""

    def make(hundred: bool) -> dict[str, np.ndarray]:
        kind = torchvision.datasets.CIFAR100 if hundred else torchvision.datasets.CIFAR10
        folder, key = tmp_path / kind.base_folder, "fine_labels" if hundred else "labels"
        folder.mkdir()

        def write(name: str, content: dict[str, object]) -> list[str]:
            (folder / name).write_bytes(pickle.dumps(content))
            return [name, md5((folder / name).read_bytes()).hexdigest()]

        rows, lists = {}, {}
        for part in ("train_list", "test_list"):
            made = []
            for name, _ in getattr(kind, part):
                rows[name] = records(3, (100 if hundred else 10,), len(rows))
                made.append(write(name, {"data": rows[name][:, 1:], key: rows[name][:, 0].tolist()}))
            lists[part] = made
        names = [f"kind-{k}" for k in range(100)] if hundred else list(CIFAR10_CLASSES)
        meta = write(kind.meta["filename"], {kind.meta["key"]: names})
        monkeypatch.setattr(kind, "train_list", lists["train_list"])
        monkeypatch.setattr(kind, "test_list", lists["test_list"])
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": meta[1]})
        return rows

    return make


@pytest.mark.parametrize(("load", "hundred"), [(cifar10, False), (cifar100, True)])
def test_the_python_version_of_cifar(tmp_path, python_cifar, load, hundred):
    *train, test = python_cifar(hundred).values()
    dataset = load(str(tmp_path), download=False)
    for split, rows in ((dataset.train, np.concatenate(train)), (dataset.test, test)):
        assert split.labels.tolist() == rows[:, 0].tolist()
        assert torch.equal(pixels_of(split), torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32)))
    assert dataset.classes == (tuple(f"kind-{k}" for k in range(100)) if hundred else CIFAR10_CLASSES)


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_pickle_that_is_not_the_published_one_is_refused_unopened(tmp_path, python_cifar, name):
    python_cifar(False)
    path, ran = tmp_path / "cifar-10-batches-py" / name, tmp_path / "ran"
    path.write_bytes(pickle.dumps(_Touch(ran)))
    with pytest.raises(DataError) as refusal:
        cifar10(str(tmp_path), download=False)
    assert str(refusal.value) == (f"{path} is truncated or altered: its MD5 is not the published one. Fetch it again.")
    assert not ran.exists()


class _Touch:
    """A pickle of it makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    ("load", "name", "first", "archive"),
    [
        (cifar10, "CIFAR10", "cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz"),
        (cifar100, "CIFAR100", "cifar-100-python/train", "cifar-100-python.tar.gz"),
    ],
)
def test_missing_cifar_is_told_with_what_to_put_where(tmp_path, load, name, first, archive):
    with pytest.raises(DataError) as refusal:
        load(str(tmp_path), download=False)
    assert str(refusal.value) == (
        f"dataset.root must be a folder that holds {name}, got {str(tmp_path)!r}, where there is no {first}, and it "
        f"was not downloaded. Unpack {archive} (or the binary version) into {tmp_path}, or give another "
        "dataset.root=<folder>."
    )
