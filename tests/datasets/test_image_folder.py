"""Folders of images: what is read, and how it is decoded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import draw, load_folder
from PIL import Image
from pixels import pixels_of

from kd_cli.data.samples import UNLABELLED

CPU = torch.device("cpu")


def save_twice(root: Path, values: np.ndarray, **options: object) -> None:
    """An image to train on, and another to test on, which is turned."""
    for part, its in (("train", values), ("test", np.rot90(values).copy())):
        (root / part / "a").mkdir(parents=True)
        Image.fromarray(its).save(root / part / "a" / "x.png", **options)


def test_an_image_folder_is_read_by_class(tree):
    dataset = load_folder(tree)
    assert dataset.classes == ("cat", "dog")
    assert dataset.spec.shape == (3, 6, 6)
    assert [Path(path).name for path in dataset.train.samples.paths] == ["a.png", "b.png", "c.PNG"]
    assert dataset.train.labels.tolist() == [0, 0, 1]
    assert dataset.test.labels.tolist() == [0, 1]
    assert dataset.validation is None
    assert dataset.transfer is dataset.train


def test_an_image_of_the_asked_size_is_kept_byte_by_byte(tree):
    image = draw(tree / "train/cat/exact.png", 33, size=(6, 6))
    expected = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)
    split = load_folder(tree).train
    where = [Path(path).name for path in split.samples.paths].index("exact.png")
    assert torch.equal(pixels_of(split)[where], expected)


def test_a_wide_image_is_cut_at_its_centre(tmp_path):
    wide = np.zeros((6, 18, 3), np.uint8)
    wide[:, 6:12] = 200  # the middle third is kept
    save_twice(tmp_path, wide)
    assert (pixels_of(load_folder(tmp_path).train) == 200).all()


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_a_photo_is_turned_upright(tmp_path, orientation, turns):
    shown = np.arange(36, dtype=np.uint8).reshape(6, 6)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_twice(tmp_path, shown, exif=exif)
    pixels = pixels_of(load_folder(tmp_path, channels=1).train)[0, 0]
    assert pixels.tolist() == np.rot90(shown, turns).tolist()


def test_sixteen_bit_grey_images_keep_their_shades(tmp_path):
    ramp = np.arange(36, dtype=np.uint16).reshape(6, 6) * 1800
    save_twice(tmp_path, ramp)
    pixels = pixels_of(load_folder(tmp_path, channels=1).train)[0, 0]
    assert np.abs(pixels.numpy() - ramp / 257).max() <= 1


def test_grey_images_on_request(tree):
    dataset = load_folder(tree, channels=1)
    assert dataset.spec.shape == (1, 6, 6)
    assert pixels_of(dataset.train).shape == (3, 1, 6, 6)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_decode_the_same_bytes_in_the_order_asked_for(tree, workers):
    for k in range(7):
        draw(tree / f"train/cat/more-{k}.png", 50 + k)
    reference = pixels_of(load_folder(tree).train)
    batches = [torch.tensor([7, 0, 3]), torch.tensor([1]), torch.tensor([2, 2, 9, 4])]
    found = list(load_folder(tree, workers=workers).train.samples.stream(batches, CPU))
    assert all(torch.equal(images, reference[where]) for images, where in zip(found, batches, strict=True))


def test_own_validation_and_transfer_splits_may_lie_beside_and_transfer_be_unlabelled(tree):
    draw(tree / "validation/dog/v.png", 20)
    for k, name in enumerate(("transfer/loose.png", "transfer/cat/kept.png")):
        draw(tree / name, 21 + k)
    dataset = load_folder(tree)
    assert dataset.validation.labels.tolist() == [1]
    assert dataset.transfer.labels.tolist() == [0, UNLABELLED]  # cat/kept.png, loose.png
    assert dataset.transfer.labelled == 1
    assert len(dataset.train) == 3


def test_the_fingerprint_of_an_image_folder_follows_its_files_and_how_they_are_decoded(tree):
    first = load_folder(tree)
    assert load_folder(tree, workers=2).fingerprint == first.fingerprint
    assert load_folder(tree, size=7).fingerprint != first.fingerprint
    assert load_folder(tree, size=[7, 6]).fingerprint != load_folder(tree, size=[6, 7]).fingerprint
    assert load_folder(tree, size=[6, 6], range=[0, 1023]).fingerprint == first.fingerprint, "nothing is scaled"
    Image.fromarray(np.arange(36, dtype=np.uint16).reshape(6, 6) * 1800).save(tree / "test/cat/d.png")
    assert load_folder(tree, range=[0, 65535]).fingerprint != load_folder(tree, range=[0, 63000]).fingerprint
    draw(tree / "test/cat/d.png", 3)
    assert load_folder(tree).fingerprint == first.fingerprint
    draw(tree / "train/cat/a.png", 99)
    changed = load_folder(tree)
    assert changed.fingerprint != first.fingerprint
    assert (changed.train.samples.checksums() == first.train.samples.checksums()).tolist() == [False, True, True]
