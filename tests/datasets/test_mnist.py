"""Files in the format of MNIST."""

import gzip
import hashlib
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision.datasets
from damage import flip_byte
from pixels import pixels_of

from kd_cli.datasets.cifar import cifar10, cifar100
from kd_cli.datasets.mnist import FASHION, FILES, MNIST_SHA256, _check_origin, fashion_mnist, mnist, read_idx
from kd_cli.errors import DataError

ORIGINAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 5, 4), dtype=np.uint8)
    labels = (np.arange(30) % 10).astype(np.uint8)
    return dict(zip(FILES, (images[:20], labels[:20], images[20:], labels[20:]), strict=True))


def lay(folder: Path, arrays: dict[str, np.ndarray], packed: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        content = idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [True, False], ids=["gzipped", "unpacked"])
@pytest.mark.parametrize(
    ("load", "below", "classes"),
    [
        (mnist, ".", tuple("0123456789")),
        (mnist, "MNIST/raw", tuple("0123456789")),
        (fashion_mnist, ".", FASHION),
        (fashion_mnist, "FashionMNIST/raw", FASHION),
    ],
)
def test_idx_files_are_read_in_either_layout(tmp_path, arrays, load, below, classes, packed):
    lay(tmp_path / below, arrays, packed)
    dataset = load(str(tmp_path), download=False)
    assert torch.equal(pixels_of(dataset.train), torch.from_numpy(arrays[FILES[0]]).unsqueeze(1))
    assert dataset.train.labels.tolist() == arrays[FILES[1]].tolist()
    assert torch.equal(pixels_of(dataset.test), torch.from_numpy(arrays[FILES[2]]).unsqueeze(1))
    assert dataset.test.labels.tolist() == arrays[FILES[3]].tolist()
    assert (dataset.classes, dataset.spec.shape) == (classes, (1, 5, 4))


def test_torchvision_reads_the_same_from_the_files_that_this_test_writes(tmp_path, arrays):
    lay(tmp_path / "MNIST/raw", arrays, packed=False)
    theirs = torchvision.datasets.MNIST(str(tmp_path), train=True)
    ours = mnist(str(tmp_path), download=False).train
    assert torch.equal(pixels_of(ours)[:, 0], theirs.data)
    assert torch.equal(ours.labels, theirs.targets)


def test_a_file_of_the_originals_length_must_be_the_original(tmp_path):
    path, content = tmp_path / "labels", struct.pack(">4BI", 0, 0, 8, 1, 10_000) + bytes(10_000)
    path.write_bytes(content)
    values, name = read_idx(path, 1), "t10k-labels-idx1-ubyte"
    with pytest.raises(DataError, match="is altered: it differs from the original MNIST file"):
        _check_origin("mnist", path, name, values, verify=True)
    _check_origin("mnist", path, name, values, verify=False)
    with mock.patch.dict(MNIST_SHA256, {name: hashlib.sha256(content).hexdigest()}):
        _check_origin("mnist", path, name, values, verify=True)


DAMAGES: dict[str, tuple[bool, Callable[[Path], object], str]] = {
    "truncated": (False, lambda path: path.write_bytes(path.read_bytes()[:-3]), "is truncated or altered: "),
    "too long": (False, lambda path: path.write_bytes(path.read_bytes() + b"\0"), "is truncated or altered: "),
    "header alone": (False, lambda path: path.write_bytes(path.read_bytes()[:9]), "is not an IDX file of 3 dimension"),
    "empty": (False, lambda path: path.write_bytes(b""), "is not an IDX file of 3 dimension(s) of unsigned bytes."),
    "another magic number": (False, lambda path: flip_byte(path, 2), "is not an IDX file of 3 dimension(s)"),
    "more rows announced": (False, lambda path: flip_byte(path, 4), "is truncated or altered: "),
    "truncated gzip": (True, lambda path: path.write_bytes(path.read_bytes()[:-30]), "is damaged and cannot be"),
    "altered byte in gzip": (True, lambda path: flip_byte(path, path.stat().st_size // 2), "is damaged and cannot be"),
    "altered check sum in gzip": (True, lambda path: flip_byte(path, -8), "is damaged and cannot be unpacked"),
    "no gzip": (True, lambda path: path.write_bytes(b"<html>not found</html>"), "is damaged and cannot be unpacked"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_idx_file_is_refused_by_name(tmp_path, arrays, damage):
    packed, harm, message = DAMAGES[damage]
    lay(tmp_path, arrays, packed)
    path = tmp_path / (FILES[0] + (".gz" if packed else ""))
    harm(path)
    with pytest.raises(DataError) as refusal:
        mnist(str(tmp_path), download=False)
    assert str(refusal.value).startswith(f"{path} {message}")
    assert str(refusal.value).rstrip(".").endswith(("Fetch it again", "by its header"))


def test_the_lengths_of_a_truncated_idx_file_are_told(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(idx(np.zeros(1200, np.uint8))[:-8])
    with pytest.raises(DataError) as refusal:
        read_idx(path, 1)
    assert str(refusal.value) == f"{path} is truncated or altered: 1,200 bytes, 1,208 by its header."


@pytest.mark.parametrize(
    ("announced", "said"),
    [
        ([10, 1, 1], "is truncated or altered: 27 bytes or more, 26 by its header."),
        ([1 << 14, 1 << 9, 1 << 9], "(at most 1,073,741,824 are read), 4,294,967,312 by its header."),
        ([(1 << 24) + 1, 1, 1], "samples of 4,194,304 pixels, [16777217, 1, 1] by its header."),
        ([1, 1 << 11, (1 << 11) + 1], "at most 16,777,216 samples of 4,194,304 pixels, [1, 2048, 2049] by its header."),
        ([(1 << 32) - 1] * 3, "[4294967295, 4294967295, 4294967295] by its header."),
    ],
)
def test_no_more_is_unpacked_than_the_header_announces_and_a_gigabyte(tmp_path, announced, said):
    """256 MB of zeros in a small file, of which the header announces less or more."""
    path = tmp_path / "images.gz"
    with gzip.open(path, "wb") as file:
        file.write(bytes([0, 0, 8, 3]) + struct.pack(">3I", *announced))
        for _ in range(256):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as refusal:
            read_idx(path, 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(refusal.value).startswith(f"{path} is truncated or altered: ")
    assert str(refusal.value).endswith(said)
    assert peak < (5 << 28 if "are read" in said else 1 << 20)


def test_a_sparse_file_of_a_terabyte_is_refused(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", 5))
    os.truncate(path, 1 << 40)
    with pytest.raises(DataError, match=r"is truncated or altered: 14 bytes or more, 13 by its header\.$"):
        read_idx(path, 1)


def test_what_may_not_be_read_is_not_called_damaged(tmp_path, arrays, unprivileged):
    lay(tmp_path, arrays, packed=False)
    (tmp_path / FILES[2]).chmod(0)
    with unprivileged(tmp_path), pytest.raises(DataError) as refusal:
        mnist(str(tmp_path), download=False)
    assert str(refusal.value) == f"{tmp_path / FILES[2]} cannot be read: Permission denied."


def test_the_files_of_mnist_are_not_those_of_fashion_mnist(original):
    with pytest.raises(DataError) as refusal:
        fashion_mnist(str(original), download=False)
    assert str(refusal.value) == (
        f"{original / FILES[0]}.gz is a file of MNIST, not of fashion_mnist. Choose dataset=mnist, or another "
        "dataset.root=…."
    )


@pytest.mark.parametrize("name", FILES)
def test_one_file_of_mnist_among_others_is_found_out(original, name):
    for file in FILES:
        if file != name:
            (original / f"{file}.gz").unlink()
            shape = read_idx(ORIGINAL / f"{file}.gz", 3 if "images" in file else 1).shape
            (original / file).write_bytes(idx(np.arange(np.prod(shape)).astype(np.uint8).reshape(shape) % 10))
    with pytest.raises(DataError, match=rf"^{original / name}\.gz is a file of MNIST, not of fashion_mnist\."):
        fashion_mnist(str(original), download=False)


def test_the_layout_that_names_the_data_set_comes_first(tmp_path, arrays):
    lay(tmp_path, {name: array * 0 for name, array in arrays.items()}, packed=False)
    lay(tmp_path / "FashionMNIST/raw", arrays, packed=True)
    loaded = fashion_mnist(str(tmp_path), download=False)
    assert torch.equal(pixels_of(loaded.train)[:, 0], torch.from_numpy(arrays[FILES[0]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({FILES[1]: np.zeros(19, np.uint8)}, "{root}/" + FILES[0] + " holds 20 images, but there are 19 labels"),
        ({FILES[2]: np.zeros((11, 5, 4), np.uint8)}, "{root}/" + FILES[2] + " holds 11 images, but there are 10"),
        ({FILES[1]: np.full(20, 10, np.uint8)}, "mnist: a label in the training split is 10, outside 0 … 9."),
        ({FILES[3]: np.full(10, 255, np.uint8)}, "mnist: a label in the test split is 255, outside 0 … 9."),
        ({FILES[2]: np.zeros((10, 5, 5), np.uint8)}, "{root}/" + FILES[0] + " and {root}/" + FILES[2] + " hold images"),
        (
            {FILES[2]: np.zeros((0, 5, 4), np.uint8), FILES[3]: np.zeros(0, np.uint8)},
            "mnist has no test images.",
        ),
    ],
    ids=["too few labels", "too many images", "train label", "test label", "sizes", "no test images"],
)
def test_idx_files_that_do_not_fit_each_other_are_refused(tmp_path, arrays, changes, message):
    lay(tmp_path, arrays | changes, packed=False)
    with pytest.raises(DataError) as refusal:
        mnist(str(tmp_path), download=False)
    assert str(refusal.value).startswith(message.format(root=tmp_path))


def test_missing_idx_files_are_named_with_what_to_put_where(tmp_path, arrays):
    del arrays[FILES[3]]
    lay(tmp_path, arrays, packed=True)
    with pytest.raises(DataError) as refusal:
        mnist(str(tmp_path), download=False)
    assert str(refusal.value) == (
        f"dataset.root must be a folder that holds mnist, got {str(tmp_path)!r}, where there is no {FILES[3]} (.gz or "
        f"unpacked), and it was not downloaded. Put the four files {', '.join(FILES)} into {tmp_path} or "
        f"{tmp_path}/MNIST/raw, or give another dataset.root=<folder>."
    )


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A folder of links to the original MNIST files, gzipped."""
    if not all((ORIGINAL / f"{name}.gz").is_file() for name in FILES):
        pytest.skip("the original MNIST files are not in ../shared/data/mnist beside the checkout")
    for name in FILES:
        (tmp_path / f"{name}.gz").symlink_to(ORIGINAL / f"{name}.gz")
    return tmp_path


def test_original_mnist_is_read_and_recognised(original):
    dataset = mnist(str(original), download=False, validation=5000)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (55_000, 5_000, 10_000)
    assert dataset.spec.shape == (1, 28, 28)
    assert dataset.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert dataset.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("name", [FILES[2], FILES[3]])
def test_an_altered_byte_of_original_mnist_is_refused_by_name(original, name):
    content = bytearray(gzip.decompress((ORIGINAL / f"{name}.gz").read_bytes()))
    content[-1000] ^= 1
    (original / name).write_bytes(content)
    with pytest.raises(DataError) as refusal:
        mnist(str(original), download=False)
    assert str(refusal.value) == (
        f"{original / name} is altered: it differs from the original MNIST file. Fetch it again, or set "
        "dataset.verify=false for data of your own in this format."
    )
    assert len(mnist(str(original), download=False, verify=False).test) == 10_000


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10, cifar100])
def test_a_download_that_fails_says_why(tmp_path, load):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=r", and it was not downloaded \(.*file.*\)\. (Put|Unpack) "):
        load(str(tmp_path / "file" / "below"))
