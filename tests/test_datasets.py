import gzip
import hashlib
import multiprocessing
import os
import pickle
import struct
import threading
import tracemalloc
import unicodedata
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from kd_cli.data import resident
from kd_cli.data.resident import Resident
from kd_cli.data.samples import UNLABELLED, Split
from kd_cli.data.splits import carve, fraction_of, stratified, whole, with_labels, without_classes
from kd_cli.datasets import digits as digits_module
from kd_cli.datasets import image_folder as folder_module
from kd_cli.datasets.cifar import CIFAR10_CLASSES, cifar10, cifar100
from kd_cli.datasets.confusable import confusable
from kd_cli.datasets.image_folder import image_folder
from kd_cli.datasets.mnist import FASHION, FILES, MNIST_SHA256, _check_origin, fashion_mnist, mnist, read_idx
from kd_cli.datasets.noise import noise
from kd_cli.errors import ConfigError, DataError

ORIGINAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
CPU = torch.device("cpu")


def pixels_of(split: Split) -> torch.Tensor:
    return next(split.images.stream([torch.arange(len(split))], CPU))


def toy(labels: list[int]) -> Split:
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return whole(Resident(pixels), torch.tensor(labels))


# --- splits


@pytest.mark.parametrize("count", [1, 7, 50, 99])
def test_stratified_takes_every_class_in_its_share(count):
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)[torch.randperm(100)]
    chosen = stratified(labels, count, seed=0)
    assert len(chosen.unique()) == count
    assert torch.equal(chosen, chosen.sort().values)
    taken = labels[chosen].bincount(minlength=3)
    assert all(abs(int(taken[k]) - count * share) < 1 for k, share in enumerate((0.5, 0.3, 0.2)))


def test_stratified_follows_its_seed_alone():
    labels = torch.arange(100) % 5
    torch.manual_seed(1)
    first = stratified(labels, 20, seed=0)
    torch.manual_seed(2)
    assert torch.equal(first, stratified(labels, 20, seed=0))
    assert not torch.equal(first, stratified(labels, 20, seed=1))


@pytest.mark.parametrize(("validation", "count"), [(0.25, 10), (0.5, 20), (1, 1), (12, 12), (38, 38), (12.0, 12)])
def test_carve_sets_a_fraction_or_a_count_apart(validation, count):
    split = toy([0, 1] * 20)
    rest, held_out = carve(split, validation, seed=0)
    assert (len(rest), len(held_out)) == (40 - count, count)
    assert torch.equal(torch.cat([rest.index, held_out.index]).sort().values, split.index)
    for part in (rest, held_out):  # labels and pixels stay with their sample
        assert torch.equal(part.labels, split.labels[part.index])
        assert torch.equal(pixels_of(part)[:, 0, 0, 0].long(), part.index)


def test_carve_of_nothing_leaves_the_split_as_it_is():
    split = toy([0, 1, 0, 1])
    assert carve(split, 0, seed=0) == (split, None)


@pytest.mark.parametrize("validation", [40, 41, -1, 1.5, -0.1, True, "0.1", None, float("nan"), float("inf")])
def test_carve_refuses_what_cannot_be_set_apart(validation):
    with pytest.raises(ConfigError) as refusal:
        carve(toy([0, 1] * 20), validation, seed=0)
    shown = validation if isinstance(validation, float | int) and validation is not True else repr(validation)
    assert str(refusal.value) == (
        "dataset.validation must be a fraction below 1, a count below 40 (the size of the training split), or 0, "
        f"got {shown}."
    )


@pytest.mark.parametrize(
    ("labels", "validation", "count"),
    [
        ([0, 1, 2], 0.6, 2),
        ([0, 1, 2], 1, 1),
        ([0, 0, 0, 1, 1, 1, 2], 6, 6),
        ([0] * 50 + [1] * 50 + [2], 0.99, 100),
        ([0] * 97 + [1] * 3, 0.9, 90),
        ([0, 1] * 20, 39, 39),
    ],
)
def test_carve_refuses_to_take_the_only_images_of_a_class(labels, validation, count):
    taken = stratified(torch.tensor(labels), count, seed=0).tolist()
    left = [label for k, label in enumerate(labels) if k not in taken]
    names = ", ".join(name for label, name in enumerate(["cat", "dog", "fox"]) if label in labels and label not in left)
    with pytest.raises(ConfigError) as refusal:
        carve(toy(labels), validation, seed=0, classes=["cat", "dog", "fox"])
    assert str(refusal.value) == (
        f"dataset.validation must be small enough to leave every class an image, got {validation}. Left empty: {names}."
    )


def test_a_data_set_set_apart_keeps_every_class_or_is_refused():
    for count in range(1, 12):
        split = toy([0] * 6 + [1] * 4 + [2] * 2)
        try:
            rest, held_out = carve(split, count, seed=0)
        except ConfigError:
            assert count > 6, "half of each class can always be spared"
            continue
        assert set(rest.labels.tolist()) == {0, 1, 2}
        assert len(held_out) == count


@pytest.mark.parametrize(
    ("labels", "fraction", "left"),
    [([0] * 60 + [1] * 40, 0.001, "dog"), ([0] * 97 + [1] * 3, 0.1, "dog"), ([0, 1, 1, UNLABELLED], 0.3, "cat")],
)
def test_labels_too_few_for_every_class_are_refused(labels, fraction, left):
    with pytest.raises(ConfigError) as refusal:
        with_labels(toy(labels), fraction, 0, ["cat", "dog"])
    assert str(refusal.value) == (
        f"transfer.labels must be large enough for a label of every class, got {fraction}. Left empty: {left}."
    )


def test_with_labels_all_and_none():
    split = toy([0, 1] * 10)
    assert with_labels(split, "all", 0) is split
    bare = with_labels(split, "none", 0)
    assert (bare.labels == UNLABELLED).all()
    assert bare.labelled == 0
    assert bare.images is split.images
    assert torch.equal(bare.index, split.index)


def test_with_labels_of_a_fraction_keeps_that_share_of_each_class():
    split = toy([0] * 60 + [1] * 40)
    partial = with_labels(split, 0.1, seed=0)
    known = partial.labels != UNLABELLED
    assert partial.labelled == int(known.sum()) == 10
    assert torch.equal(partial.labels[known], split.labels[known])
    assert partial.labels[known].bincount().tolist() == [6, 4]
    assert torch.equal(partial.labels, with_labels(split, 0.1, seed=0).labels)
    assert not torch.equal(partial.labels, with_labels(split, 0.1, seed=1).labels)


def test_with_labels_of_a_partly_labelled_set_takes_its_share_of_the_known_ones():
    split = toy([0, 1, UNLABELLED, UNLABELLED] * 10)
    partial = with_labels(split, 0.5, seed=0)
    assert partial.labelled == 10
    assert (partial.labels[split.labels == UNLABELLED] == UNLABELLED).all()


@pytest.mark.parametrize("labels", ["some", 0, 1, 1.5, -0.5, True, None, float("nan")])
def test_with_labels_refuses_other_values(labels):
    with pytest.raises(ConfigError, match=r"^transfer\.labels must be all, none or a fraction between 0 and 1, got "):
        with_labels(toy([0, 1]), labels, 0)


def test_with_labels_refuses_a_fraction_of_no_labels():
    with pytest.raises(ConfigError, match=r"^transfer\.labels must be none for a transfer set that holds no labels"):
        with_labels(toy([UNLABELLED, UNLABELLED]), 0.5, 0)


# --- images in memory


def test_resident_images_have_checksums_and_a_digest_of_their_bytes():
    images = Resident(torch.arange(24, dtype=torch.uint8).view(3, 2, 2, 2))
    same = Resident(images.pixels.clone().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
    other = Resident(images.pixels.index_fill(0, torch.tensor([1]), 9))
    assert torch.equal(images.checksums(), same.checksums())
    assert images.digest == same.digest
    assert (images.checksums() == other.checksums()).tolist() == [True, False, True]
    assert images.digest != other.digest
    assert images.digest != Resident(images.pixels.view(3, 1, 2, 4)).digest
    assert torch.equal(images.select(torch.tensor([2, 0])).checksums(), images.checksums()[[2, 0]])


# --- digits


def test_digits_are_scikit_learns(digits):
    theirs = load_digits()
    everything = digits_module.digits()
    found = torch.cat([pixels_of(everything.train), pixels_of(everything.test)])
    index = torch.cat([everything.train.index, everything.test.index])
    assert torch.equal(index.sort().values, torch.arange(1797))
    expected = torch.from_numpy(theirs.images * 255 / 16).floor().to(torch.uint8)[index]
    assert torch.equal(found[:, 0], expected)
    labels = torch.cat([everything.train.labels, everything.test.labels])
    assert torch.equal(labels, torch.from_numpy(theirs.target)[index])
    assert everything.classes == tuple("0123456789")
    assert everything.input_shape == (1, 8, 8)


def test_the_test_split_of_digits_is_fixed_and_stratified():
    plain, carved = digits_module.digits(), digits_module.digits(validation=0.1, seed=5)
    assert (len(plain.train), len(plain.test), plain.validation) == (1198, 599, None)
    assert torch.equal(plain.test.index, carved.test.index)
    whole_share = (plain.train.labels.bincount() + plain.test.labels.bincount()) / 3
    assert (plain.test.labels.bincount() - whole_share).abs().max() <= 1
    assert (len(carved.train), len(carved.validation)) == (1078, 120)
    parts = torch.cat([carved.train.index, carved.validation.index, carved.test.index])
    assert len(parts.unique()) == 1797
    assert carved.transfer is carved.train


def test_digits_are_the_bytes_that_every_figure_was_measured_on():
    expected = "3a7791f1a12191bc29df33bd89a3dd48ad5a09a41d24969ba381709217d262b7"
    assert digits_module.digits().fingerprint == digits_module.digits(size=8).fingerprint == expected


@pytest.mark.parametrize("size", [4, 28])
def test_digits_of_another_size_are_the_same_samples_resized(size):
    plain, resized = digits_module.digits(), digits_module.digits(size=size)
    assert resized.input_shape == (1, size, size)
    for theirs, ours in ((plain.train, resized.train), (plain.test, resized.test)):
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.labels, theirs.labels)
        assert ours.images.shape == (1, size, size)
        expected = interpolate(pixels_of(theirs).double(), (size, size), mode="bilinear", antialias=True)
        assert (pixels_of(ours).double() - expected).abs().max() <= 1, "rounded twice, in fixed point"


@pytest.mark.parametrize("size", [0, -1, 257, 2.0, True, "8", None])
def test_a_size_outside_its_rule_is_refused(size):
    with pytest.raises(ConfigError, match=r"^dataset\.size must be a whole number from 1 to 256, got "):
        digits_module.digits(size=size)


# --- noise


def test_noise_has_the_mean_and_spread_that_were_asked_for_and_no_labels():
    made = noise(samples=3000, channels=3, height=5, width=4, mean=0.5, std=0.1)
    pixels = pixels_of(made.transfer).double() / 255
    assert pixels.shape == (3000, 3, 5, 4)
    assert float(pixels.mean()) == pytest.approx(0.5, abs=0.002)
    assert float(pixels.std()) == pytest.approx(0.1, abs=0.002)
    flat = pixels.flatten(1)
    assert float(torch.corrcoef(flat.T).fill_diagonal_(0).abs().max()) < 0.1, "pixels are independent of each other"
    assert made.transfer.labelled == 0
    assert (made.classes, made.input_shape, len(made.test), len(made.train)) == ((), (3, 5, 4), 0, 0)


def test_noise_is_cut_off_at_black_and_white():
    pixels = pixels_of(noise(samples=500, mean=0.1307, std=0.3081).transfer)
    assert float((pixels == 0).double().mean()) == pytest.approx(0.336, abs=0.01)  # the normal distribution below 0
    assert int((pixels == 255).sum()) > 0


def test_noise_follows_its_seed_alone():
    torch.manual_seed(1)
    first = noise(samples=50)
    torch.manual_seed(2)
    assert noise(samples=50).fingerprint == first.fingerprint
    assert noise(samples=50, seed=1).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "dataset.samples must be a whole number ≥ 1, got 0."),
        ({"height": 2.5}, "dataset.height must be a whole number ≥ 1, got 2.5."),
        (
            {"samples": 1, "height": 2**15, "width": 2**15},
            "dataset.channels × dataset.height × dataset.width must be at most 4,194,304, got 1073741824.",
        ),
        (
            {"samples": 2**24 + 1, "height": 1, "width": 1},
            "dataset.samples must be at most 16,777,216, got 16777217.",
        ),
        ({"samples": 10**9}, "dataset.samples must be such that the images take at most 2 GiB, got 1000000000."),
        ({"mean": 1.5}, "dataset.mean must be between 0 and 1, got 1.5."),
        ({"mean": float("nan")}, "dataset.mean must be between 0 and 1, got nan."),
        ({"std": 0}, "dataset.std must be > 0 and ≤ 1, got 0."),
        ({"std": "much"}, "dataset.std must be > 0 and ≤ 1, got 'much'."),
        ({"seed": -1}, "dataset.seed must be a whole number ≥ 0, got -1."),
    ],
)
def test_noise_outside_its_rules_is_refused(arguments, message):
    with pytest.raises(ConfigError) as refusal:
        noise(**arguments)
    assert str(refusal.value) == message


@pytest.mark.parametrize(("groups", "classes_each"), [(10**6, 2), (2, 501), (10**5, 10**5)])
def test_confusable_classes_are_bounded(groups, classes_each):
    with pytest.raises(ConfigError) as refusal:
        confusable(groups=groups, classes_each=classes_each)
    assert str(refusal.value) == (
        f"dataset.groups × dataset.classes_each must be at most 1,000, got {groups * classes_each}."
    )


def test_the_fingerprint_follows_the_content_of_the_splits():
    prints = [digits_module.digits(*arguments).fingerprint for arguments in ((), (), (0.1, 0), (0.1, 1))]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_seed_outside_its_rule_is_refused():
    with pytest.raises(ConfigError) as refusal:
        digits_module.digits(validation=0.1, seed=-1)
    assert str(refusal.value) == "dataset.seed must be a whole number ≥ 0, got -1."


# --- IDX


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
    assert (dataset.classes, dataset.input_shape) == (classes, (1, 5, 4))


def test_torchvision_reads_the_same_from_the_files_that_this_test_writes(tmp_path, arrays):
    lay(tmp_path / "MNIST/raw", arrays, packed=False)
    theirs = torchvision.datasets.MNIST(str(tmp_path), train=True)
    ours = mnist(str(tmp_path), download=False).train
    assert torch.equal(pixels_of(ours)[:, 0], theirs.data)
    assert torch.equal(ours.labels, theirs.targets)


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


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
    assert dataset.input_shape == (1, 28, 28)
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


# --- CIFAR


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
    assert dataset.input_shape == (3, 32, 32)
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


# --- folders of images


def draw(path: Path, seed: int, size: tuple[int, int] = (12, 9), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode=None).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for k, name in enumerate(["train/cat/b.png", "train/cat/a.png", "train/dog/deep/c.PNG", "test/cat/d.png"]):
        draw(tmp_path / name, k)
    draw(tmp_path / "test/dog/e.bmp", 9, mode="L")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def load_folder(root: Path, **changes: object):
    return image_folder(str(root), **{"size": 6, "workers": 0} | changes)


def test_an_image_folder_is_read_by_class(tree):
    dataset = load_folder(tree)
    assert dataset.classes == ("cat", "dog")
    assert dataset.input_shape == (3, 6, 6)
    assert [Path(path).name for path in dataset.train.images.paths] == ["a.png", "b.png", "c.PNG"]
    assert dataset.train.labels.tolist() == [0, 0, 1]
    assert dataset.test.labels.tolist() == [0, 1]
    assert dataset.validation is None
    assert dataset.transfer is dataset.train


def test_an_image_of_the_asked_size_is_kept_byte_by_byte(tree):
    image = draw(tree / "train/cat/exact.png", 33, size=(6, 6))
    expected = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)
    split = load_folder(tree).train
    where = [Path(path).name for path in split.images.paths].index("exact.png")
    assert torch.equal(pixels_of(split)[where], expected)


def test_a_wide_image_is_cut_at_its_centre(tmp_path):
    wide = np.zeros((6, 18, 3), np.uint8)
    wide[:, 6:12] = 200  # the middle third is kept
    for part in ("train/a/x.png", "test/a/x.png"):
        (tmp_path / part).parent.mkdir(parents=True)
        Image.fromarray(wide).save(tmp_path / part)
    assert (pixels_of(load_folder(tmp_path).train) == 200).all()


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_a_photo_is_turned_upright(tmp_path, orientation, turns):
    shown = np.arange(36, dtype=np.uint8).reshape(6, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for part in ("train/a/x.png", "test/a/x.png"):
        (tmp_path / part).parent.mkdir(parents=True)
        Image.fromarray(shown).save(tmp_path / part, exif=exif)
    pixels = pixels_of(load_folder(tmp_path, channels=1).train)[0, 0]
    assert pixels.tolist() == np.rot90(shown, turns).tolist()


def test_sixteen_bit_grey_images_keep_their_shades(tmp_path):
    ramp = np.arange(36, dtype=np.uint16).reshape(6, 6) * 1800
    for part in ("train/a/x.png", "test/a/x.png"):
        (tmp_path / part).parent.mkdir(parents=True)
        Image.fromarray(ramp).save(tmp_path / part)
    pixels = pixels_of(load_folder(tmp_path, channels=1).train)[0, 0]
    assert np.abs(pixels.numpy() - ramp / 257).max() <= 1


def test_grey_images_on_request(tree):
    dataset = load_folder(tree, channels=1)
    assert dataset.input_shape == (1, 6, 6)
    assert pixels_of(dataset.train).shape == (3, 1, 6, 6)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_decode_the_same_bytes_in_the_order_asked_for(tree, workers):
    for k in range(7):
        draw(tree / f"train/cat/more-{k}.png", 50 + k)
    reference = pixels_of(load_folder(tree).train)
    batches = [torch.tensor([7, 0, 3]), torch.tensor([1]), torch.tensor([2, 2, 9, 4])]
    found = list(load_folder(tree, workers=workers).train.images.stream(batches, CPU))
    assert all(torch.equal(images, reference[where]) for images, where in zip(found, batches, strict=True))


def test_own_validation_and_transfer_splits_may_lie_beside_and_transfer_be_unlabelled(tree):
    draw(tree / "validation/dog/v.png", 20)
    for name in ("transfer/loose.png", "transfer/cat/kept.png"):
        draw(tree / name, 21)
    dataset = load_folder(tree)
    assert dataset.validation.labels.tolist() == [1]
    assert dataset.transfer.labels.tolist() == [0, UNLABELLED]  # cat/kept.png, loose.png
    assert dataset.transfer.labelled == 1
    assert len(dataset.train) == 3


def test_the_fingerprint_of_an_image_folder_follows_its_files_and_how_they_are_decoded(tree):
    first = load_folder(tree)
    assert load_folder(tree, workers=2).fingerprint == first.fingerprint
    assert load_folder(tree, size=7).fingerprint != first.fingerprint
    draw(tree / "train/cat/a.png", 99)
    changed = load_folder(tree)
    assert changed.fingerprint != first.fingerprint
    assert (changed.train.images.checksums() == first.train.images.checksums()).tolist() == [False, True, True]


def test_undecodable_images_are_all_listed_by_path(tree):
    whole_file = (tree / "train/cat/a.png").read_bytes()
    (tree / "train/cat/a.png").write_bytes(whole_file[: len(whole_file) // 2])
    (tree / "test/dog/text.png").write_text("this is no image")
    (tree / "test/cat/empty.jpg").write_bytes(b"")
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    first, *lines = str(refusal.value).splitlines()
    assert first == "3 image(s) cannot be decoded; mend or remove them:"
    paths = [tree / "train/cat/a.png", tree / "test/cat/empty.jpg", tree / "test/dog/text.png"]
    assert [line.partition(": ")[0].strip() for line in lines] == [str(path) for path in paths]


def test_an_image_with_damaged_exif_is_listed_too(tree):
    path = tree / "train/cat/turned.jpg"
    Image.new("RGB", (8, 8)).save(path)
    entries = struct.pack("<HHI4s", 0x0112, 3, 1, b"\6\0\0\0") + struct.pack("<HHI4s", 0x0128, 2, 1, b"A\0\0\0")
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + bytes(4)  # a unit that is a letter
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert f"\n  {path}: " in str(refusal.value)


@pytest.mark.parametrize("name", ["test/bird/x.png", "test/loose.png", "train/loose.png", "transfer/bird/x.png"])
def test_an_image_in_no_class_of_the_training_split_is_refused(tree, name):
    path = draw(tree / name, 1)
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == f"{path} is in no class of {tree / 'train'} (cat, dog)."


def test_a_class_folder_may_be_a_link_and_links_may_lead_back(tree):
    (tree / "train" / "cat").rename(tree / "cats")
    (tree / "train" / "cat").symlink_to(tree / "cats", target_is_directory=True)
    (tree / "cats" / "again").symlink_to(tree / "cats", target_is_directory=True)
    (tree / "cats" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "train" / "dog" / "linked.png").symlink_to(tree / "cats" / "a.png")
    listed = [Path(path).relative_to(tree / "train").as_posix() for path in load_folder(tree).train.images.paths]
    cats = [name for name in listed if name.startswith("cat/") and "up" not in name]
    assert cats == ["cat/a.png", "cat/b.png"], "each real folder once"
    assert "dog/linked.png" in listed


HIDDEN = ["._a.png", ".hidden/x.png", "__MACOSX/x.png", "@eaDir/x.png", ".ipynb_checkpoints/x.png", "Thumbs.db"]


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("where", ["train", "train/cat", "test/dog", "transfer", "."])
def test_what_systems_and_tools_leave_is_nobodys(tree, where, name, caplog):
    draw(tree / "transfer/loose.png", 3)
    first = load_folder(tree)
    (tree / where / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / where / name).write_bytes(b"whatever")
    caplog.clear()
    second = load_folder(tree)
    assert (second.classes, second.fingerprint) == (first.classes, first.fingerprint)
    assert name not in caplog.text


def test_a_class_without_images_is_refused_by_name(tree):
    for name in ("fox", "yak", "__pycache__"):
        (tree / "train" / name).mkdir()
    (tree / "train/yak/photo.heic").write_bytes(b"x")
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    start, _, end = str(refusal.value).partition(" (")
    assert start == f"{tree / 'train'} must hold images"
    assert end.endswith(") of every class, got none of: fox, yak. Fill these folders, or remove them.")


def test_a_class_without_test_images_is_told(tree, caplog):
    load_folder(tree)
    assert "holds no images of" not in caplog.text
    (tree / "test/dog/e.bmp").unlink()
    load_folder(tree)
    assert f"{tree / 'test'} holds no images of: dog" in caplog.text


def test_a_link_to_nowhere_and_a_pipe_are_listed(tree):
    (tree / "train/cat/gone.png").symlink_to(tree / "nowhere.png")
    os.mkfifo(tree / "train/dog/pipe.png")
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == (
        "2 image(s) cannot be decoded; mend or remove them:\n"
        f"  {tree}/train/cat/gone.png: cannot be read (No such file or directory)\n"
        f"  {tree}/train/dog/pipe.png: no plain file"
    )


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".pbm", ".PNM"])
def test_the_less_common_names_of_images(tree, suffix):
    image = Image.fromarray(np.random.default_rng(5).integers(0, 256, (9, 9), dtype=np.uint8))
    image.save(tree / f"train/cat/z{suffix}", "JPEG" if suffix.lower().startswith(".j") else "PPM")
    assert [Path(path).name for path in load_folder(tree).train.images.paths][2] == f"z{suffix}"


def test_files_that_are_no_images_are_told(tree, caplog):
    for name in ("train/dog/x.heic", "test/cat/y", "train/read me.md"):
        (tree / name).write_bytes(b"x")
    load_folder(tree)
    told = ", ".join(str(tree / name) for name in ("train/cat/notes.txt", "train/dog/x.heic", "train/read me.md"))
    assert f"4 file(s) below {tree} are no images by their names and are left out: {told}" in caplog.text


def test_folders_and_files_that_may_not_be_read_are_named(tree, unprivileged):
    (tree / "train/cat/a.png").chmod(0)
    with unprivileged(tree), pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == (
        "1 image(s) cannot be decoded; mend or remove them:\n"
        f"  {tree}/train/cat/a.png: cannot be read (Permission denied)"
    )
    (tree / "train/dog/deep").chmod(0)
    with unprivileged(tree), pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == f"1 folder(s) cannot be read:\n  {tree}/train/dog/deep: Permission denied"
    (tree / "train").chmod(0)
    with unprivileged(tree), pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == f"{tree}/train cannot be read: Permission denied."
    (tree / "train").chmod(0o444)  # its names can be listed, and nothing in it can be entered
    with unprivileged(tree), pytest.raises(DataError, match=rf"^{tree}/train/cat cannot be read: Permission denied\.$"):
        load_folder(tree)


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10, cifar100, image_folder])
def test_a_root_that_may_not_be_entered_is_named(tmp_path, load, unprivileged):
    (tmp_path / "closed").mkdir(mode=0)
    with (
        unprivileged(tmp_path),
        pytest.raises(DataError, match=rf"^{tmp_path}/closed/.* cannot be read: Permission denied\.$"),
    ):
        load(str(tmp_path / "closed"))


def test_links_that_lead_nowhere_are_refused(tree):
    (tree / "train" / "dog" / "more").symlink_to(tree / "unmounted")
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == f"1 link(s) lead nowhere; mend or remove them:\n  {tree}/train/dog/more"
    (tree / "train" / "dog" / "more").rename(tree / "train" / "fox")
    with pytest.raises(DataError, match=rf"^1 link\(s\) lead nowhere; mend or remove them:\n  {tree}/train/fox$"):
        load_folder(tree)


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10, cifar100])
def test_a_download_that_fails_says_why(tmp_path, load):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=r", and it was not downloaded \(.*file.*\)\. (Put|Unpack) "):
        load(str(tmp_path / "file" / "below"))


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_names_in_two_forms_of_unicode_are_one_class(tree):
    draw(tree / "train" / COMPOSED / "x.png", 1)
    draw(tree / "test" / DECOMPOSED / "x.png", 2)
    dataset = load_folder(tree)
    assert dataset.classes == (COMPOSED, "cat", "dog") or dataset.classes == (*sorted(["cat", "dog", COMPOSED]),)
    assert dataset.classes[int(dataset.test.labels[0])] == COMPOSED
    part = without_classes(dataset.train, "transfer.only_classes", [DECOMPOSED], dataset.classes, omit=False)
    assert [Path(path).parent.name for path in part.images.paths] == [COMPOSED]


def test_two_folders_whose_names_read_alike_are_told_apart(tree):
    for name in (COMPOSED, DECOMPOSED):
        draw(tree / "train" / name / "x.png", 1)
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == (
        f"{tree / 'train'} must hold one folder for each class, got 'cafe\\u0301' and 'caf\\xe9', which read alike. "
        "Join them."
    )


def test_images_of_hardly_more_than_one_shade_are_told(tmp_path, caplog):
    draw_dark(tmp_path, most=3)
    load_folder(tmp_path)
    assert "image_folder: the training images hold hardly anything but one shade: their pixels are " in caplog.text
    caplog.clear()
    draw_dark(tmp_path, most=30)
    load_folder(tmp_path)
    assert caplog.text == ""


def draw_dark(root: Path, most: int) -> None:
    for part in ("train", "test"):
        for k in range(4):
            pixels = np.random.default_rng(k).integers(0, most + 1, (6, 6), dtype=np.uint8)
            (root / part / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / part / "ab"[k % 2] / f"{k}.png")


# Images that do not fit into memory.


@pytest.fixture
def streamed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for k in range(7):
        draw(tree / f"train/cat/more-{k}.png", 50 + k)
    monkeypatch.setattr(folder_module, "KEPT", 0)
    return tree


@pytest.mark.parametrize("workers", [0, 1, 2, 50])
def test_what_is_decoded_anew_is_what_is_kept_in_memory(streamed, workers, monkeypatch):
    anew = load_folder(streamed, workers=workers)
    monkeypatch.setattr(folder_module, "KEPT", 1 << 30)
    kept = load_folder(streamed, workers=workers)
    assert (anew.train.images.decoded, kept.train.images.decoded is None) == (None, False)
    batches = [torch.tensor([7, 0, 3]), torch.tensor([1]), torch.tensor([2, 2, 9, 4]), torch.arange(10)]
    for _ in range(2):  # two epochs
        pairs = zip(anew.train.images.stream(batches, CPU), kept.train.images.stream(batches, CPU), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert (anew.fingerprint, anew.train.images.digest) == (kept.fingerprint, kept.train.images.digest)
    assert torch.equal(anew.train.images.checksums(), kept.train.images.checksums())
    some = torch.tensor([5, 1])
    chosen = [split.select(some) for split in (anew.train, kept.train)]
    assert torch.equal(*map(pixels_of, chosen))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("harm", "now"),
    [
        (Path.unlink, "cannot be read (No such file or directory)"),
        (lambda path: path.write_bytes(b"x"), "changed"),
        (lambda path: draw(path, 1), "changed"),
    ],
    ids=["vanished", "damaged", "another"],
)
def test_an_image_that_changes_amid_training_is_named(streamed, workers, harm, now):
    images = load_folder(streamed, workers=workers).train.images
    harm(streamed / "train/cat/b.png")
    stream = images.stream([torch.tensor([0]), torch.tensor([1]), torch.tensor([2])], CPU)
    next(stream)
    with pytest.raises(DataError) as refusal:
        list(stream)
    assert str(refusal.value) == (
        f"{streamed}/train/cat/b.png could be decoded when the data were loaded, and now: {now}. "
        "Put it back as it was: the same command then goes on."
    )


def test_a_stream_that_is_left_needs_no_process_and_leaves_no_thread_behind(streamed):
    before = threading.active_count()
    stream = load_folder(streamed, workers=2).train.images.stream([torch.tensor([0])] * 50, CPU)
    next(stream)
    assert multiprocessing.active_children() == [], "processes would need shared memory, and a start in each epoch"
    stream.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("channels", "most"), [(1, 2048), (3, 1182)])
def test_a_size_whose_batches_would_fill_memory_is_refused(tree, channels, most):
    with pytest.raises(ConfigError) as refusal:
        load_folder(tree, channels=channels, size=most + 1)
    assert (
        str(refusal.value) == f"dataset.size must be at most {most} with dataset.channels={channels}, got {most + 1}."
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_missing_part_is_told_with_the_layout(tree, part):
    (tree / part).rename(tree / "elsewhere")
    with pytest.raises(DataError) as refusal:
        load_folder(tree)
    assert str(refusal.value) == (
        f"dataset.root must be a folder with train/ and test/, got {str(tree)!r}, where there is no {part}/. "
        "Lay it out as train/<class>/<image>, or give another dataset.root=<folder>."
    )


def test_a_part_without_images_is_refused(tree):
    for path in (tree / "test").rglob("*.*"):
        path.unlink()
    with pytest.raises(DataError, match=r"holds no images \("):
        load_folder(tree)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "dataset.size must be a whole number of pixels ≥ 1, got 0."),
        ({"size": 2.5}, "dataset.size must be a whole number of pixels ≥ 1, got 2.5."),
        ({"channels": 2}, "dataset.channels must be 1 (grey) or 3 (colour), got 2."),
        ({"workers": -1}, "dataset.workers must be a whole number ≥ 0, got -1."),
    ],
)
def test_arguments_outside_their_rule_are_refused(tree, changes, message):
    with pytest.raises(ConfigError) as refusal:
        load_folder(tree, **changes)
    assert str(refusal.value) == message


def test_images_that_do_not_fit_on_the_device_are_streamed_and_it_says_so(monkeypatch, caplog) -> None:
    images = Resident(torch.arange(48, dtype=torch.uint8).view(6, 1, 2, 4))
    order = [torch.tensor([3, 0]), torch.tensor([5])]
    monkeypatch.setattr(resident, "fits", lambda device, size: size < 48)
    with caplog.at_level("INFO", "kd"):
        shown = list(images.stream(order, torch.device("meta")))
    assert [part.shape for part in shown] == [(2, 1, 2, 4), (1, 1, 2, 4)]
    assert {part.device.type for part in shown} == {"meta"}
    assert images._placed[torch.device("meta")].device.type == "cpu"
    assert "do not fit on the device beside training: streamed" in caplog.text


# A part of the transfer set.


def numbered(labels: list[int]) -> Split:
    return whole(Resident(torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)), torch.tensor(labels))


@pytest.mark.parametrize(
    ("wanted", "omit", "kept"),
    [([1], True, [0, 2, 3]), (["dog"], True, [0, 2, 3]), ([0, "fox"], False, [0, 2, 3]), ([2], False, [3])],
)
def test_classes_are_left_out_by_name_or_number(wanted, omit, kept) -> None:
    part = without_classes(numbered([0, 1, 0, 2, 1]), "transfer.omit_classes", wanted, ["cat", "dog", "fox"], omit)
    assert part.index.tolist() == kept


def test_names_come_before_numbers() -> None:
    part = without_classes(numbered([0, 1]), "transfer.omit_classes", [1], ["1", "0"], True)
    assert part.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("labels", "wanted", "message"),
    [
        ([0, 1], ["bee"], "must be a list of classes (cat, dog, fox) or their numbers, got 'bee'."),
        ([0, 1], [3], "must be a list of classes (cat, dog, fox) or their numbers, got 3."),
        ([0, 1], [0, 1], "must be a list that leaves some samples in the transfer set, got [0, 1]."),
        ([0, -1], [0], "must be null for a transfer set with unlabelled samples, whose classes nobody knows, got [0]."),
    ],
)
def test_a_choice_of_classes_that_makes_no_sense_is_refused(labels, wanted, message) -> None:
    with pytest.raises(ConfigError) as refusal:
        without_classes(numbered(labels), "transfer.omit_classes", wanted, ["cat", "dog", "fox"], True)
    assert str(refusal.value) == f"transfer.omit_classes {message}"


def test_a_fraction_is_stratified_and_follows_from_the_seed() -> None:
    split = numbered([0] * 60 + [1] * 30 + [UNLABELLED] * 10)
    part = fraction_of(split, 0.1, 3, ["a", "b"])
    assert part.labels.tolist() == [0] * 6 + [1] * 3 + [UNLABELLED]
    assert torch.equal(part.index, fraction_of(split, 0.1, 3, ["a", "b"]).index)
    assert not torch.equal(part.index, fraction_of(split, 0.1, 4, ["a", "b"]).index)
    assert fraction_of(split, 1, 3, ["a", "b"]) is split


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (0, "must be > 0 and ≤ 1, got 0."),
        (1.5, "must be > 0 and ≤ 1, got 1.5."),
        (True, "must be > 0 and ≤ 1, got True."),
        (0.05, "must be large enough for a sample of every class, got 0.05. Left empty: b."),
        (1e-6, "must be large enough for a sample of every class, got 1e-06. Left empty: a, b."),
    ],
)
def test_a_fraction_that_leaves_a_class_empty_is_refused(fraction, message) -> None:
    with pytest.raises(ConfigError) as refusal:
        fraction_of(numbered([0] * 95 + [1] * 5), fraction, 0, ["a", "b"])
    assert str(refusal.value) == f"transfer.fraction {message}"


def test_a_fraction_of_unlabelled_samples_that_leaves_none_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        fraction_of(numbered([UNLABELLED] * 10), 0.01, 0, ["a", "b"])
    assert str(refusal.value) == "transfer.fraction must be large enough for a sample, got 0.01."
