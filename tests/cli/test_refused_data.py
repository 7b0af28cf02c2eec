"""Data that is damaged."""

import gzip
import struct
from pathlib import Path
from typing import Any

import pytest
from images import folders, image_folder
from running import TINY, inside

from kd_cli.data import splits

IDX = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"


def idx(path: Path, count: int, dimensions: int) -> None:
    shape = (count, 2, 2) if dimensions == 3 else (count,)
    body = bytes(k % 10 for k in range(count * (4 if dimensions == 3 else 1)))
    path.write_bytes(bytes([0, 0, 8, dimensions]) + struct.pack(f">{dimensions}I", *shape) + body)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Four small files in MNIST's format."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, count in (("train", 40), ("t10k", 20)):
        idx(folder / f"{part}-images-idx3-ubyte", count, 3)
        idx(folder / f"{part}-labels-idx1-ubyte", count, 1)
    return folder


def refusal(tmp_path: Path) -> str:
    words = ("dataset=mnist", "dataset.root=mnist", "dataset.download=false", "teacher=cnn_digits")
    done = inside("distill", *words, *TINY, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert not (tmp_path / "outputs").exists()
    return done.err.rstrip("\n")


IMAGES = "mnist/train-images-idx3-ubyte"


def test_truncated_data(mnist: Path, tmp_path: Path) -> None:
    path = tmp_path / IMAGES
    path.write_bytes(path.read_bytes()[:-3])
    assert refusal(tmp_path) == f"{IMAGES} is truncated or altered: 173 bytes, 176 by its header."


def test_data_of_another_format(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / IMAGES).write_bytes(b"<html>not found</html>")
    expected = f"{IMAGES} is not an IDX file of 3 dimension(s) of unsigned bytes. Fetch it again."
    assert refusal(tmp_path) == expected


def test_truncated_gzip(mnist: Path, tmp_path: Path) -> None:
    path = tmp_path / IMAGES
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()
    assert refusal(tmp_path).startswith(f"{IMAGES}.gz is damaged and cannot be unpacked (")


def test_one_file_missing(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / IMAGES).unlink()
    assert refusal(tmp_path) == (
        "dataset.root must be a folder that holds mnist, got 'mnist', where there is no train-images-idx3-ubyte "
        f"(.gz or unpacked), and it was not downloaded. Put the four files {IDX} into mnist or mnist/MNIST/raw, "
        "or give another dataset.root=<folder>."
    )


def test_fewer_labels_than_images(mnist: Path, tmp_path: Path) -> None:
    idx(mnist / "train-labels-idx1-ubyte", 39, 1)
    assert refusal(tmp_path) == f"{IMAGES} holds 40 images, but there are 39 labels beside it."


def test_images_that_cannot_be_decoded_are_all_listed_before_training(tmp_path: Path) -> None:
    folders(tmp_path / "pets", ["cat", "dog"], 8)
    (tmp_path / "pets/train/cat/bad.png").write_bytes(b"no image")
    (tmp_path / "pets/test/dog/empty.jpg").write_bytes(b"")
    cut = (tmp_path / "pets/train/dog/0.png").read_bytes()
    (tmp_path / "pets/train/dog/cut.png").write_bytes(cut[: len(cut) // 2])
    done = inside("distill", *image_folder("pets", 8), "teacher=cnn_digits", "student=mlp_64", *TINY, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    first, *listed = done.err.splitlines()
    assert first == "3 image(s) cannot be decoded; mend or remove them:"
    assert [line.strip().partition(": ")[0] for line in listed] == [
        "pets/train/cat/bad.png",
        "pets/train/dog/cut.png",
        "pets/test/dog/empty.jpg",
    ]
    assert not (tmp_path / "outputs").exists()


def test_an_image_that_vanishes_amid_training_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path / "pets", ["cat", "dog"], 8)
    gone = tmp_path / "pets/train/cat/1.png"

    def loaded(*parts: Any) -> Any:
        dataset = splits.assemble(*parts)
        gone.unlink()
        return dataset

    monkeypatch.setattr("kd_cli.datasets.image_folder.KEPT", 0)
    monkeypatch.setattr("kd_cli.datasets.image_folder.assemble", loaded)
    done = inside("train-teacher", *image_folder("pets", 8), "teacher=cnn_digits", TINY[0], cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1] == (
        "pets/train/cat/1.png could be decoded when the data were loaded, and now: cannot be read (No such file or "
        "directory). Put it back as it was: the same command then goes on."
    )
    assert "Traceback" not in done.err


def test_an_image_outside_the_classes(tmp_path: Path) -> None:
    folders(tmp_path / "pets", ["cat", "dog"], 8)
    (tmp_path / "pets/test/dog").rename(tmp_path / "pets/test/dgo")
    done = inside("distill", *image_folder("pets", 8), "teacher=cnn_digits", "student=mlp_64", *TINY, cwd=tmp_path)
    expected = "pets/test/dgo/0.png is in no class of pets/train (cat, dog).\n"
    assert (done.status, done.out, done.err) == (1, "", expected)
