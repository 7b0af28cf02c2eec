"""Folders of images as people have them, from the command line to result.json and back to the stored model."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import Outcome, inside

SHORT = ("teacher=cnn_digits", "student=mlp_64", "teacher.train.epochs=1", "student.train.epochs=1", "baseline=false")


def draw_shapes(folder: Path, count: int, patients: int) -> None:
    """Floats from 0 to 1, bright at the left or at the right, as a microscope writes them; and their table."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    rows = ["file_name,diagnosis"]
    for k in range(count):
        values = draw.random((6, 8), dtype=np.float32) / 2
        values[:, slice(0, 4) if k % 2 else slice(4, 8)] += 0.5
        Image.fromarray(values).save(folder / f"patient{k % patients}_{k}.tif")
        rows.append(f"patient{k % patients}_{k}.tif,{'left' if k % 2 else 'right'}")
    (folder.parent / "labels.csv").write_text("\n".join(rows))
    (folder / "protocol.txt").write_text("no image")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    draw_shapes(folder / "set/slides", 60, 15)
    return folder


WORDS = (
    "dataset=image_folder", "dataset.root=set", "dataset.labels=labels.csv", "dataset.channels=1", "dataset.workers=0",
    "dataset.size=[6,8]", "dataset.validation=0.1", r"dataset.group=(patient\d{1,3})_",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(home: Path) -> Outcome:
    return inside("distill", *WORDS, "dataset.range=[0,1]", *SHORT, cwd=home)


def test_what_was_understood_is_said_in_a_line_and_kept(home: Path, made: Outcome) -> None:
    assert made.status == 0, made.err
    lines = [line for line in made.err.splitlines() if line.startswith("set: ")]
    assert lines == [
        "set: 60 images in 2 classes (left 30, right 30); 44 training, 4 validation, 12 test; 60 TIFF; 8×6 pixels; "
        "test and validation set apart by seed 0 and group; ignored: 1 .txt"
    ]
    result = json.loads((home / made.run / "result.json").read_text())
    assert result["format"] == 1
    assert result["data_found"]["splits"] == {"train": 44, "validation": 4, "test": 12}
    assert result["data_found"]["classes"] == {"left": 30, "right": 30}
    assert result["data_found"]["ignored"] == {".txt": 1}


def test_a_stored_model_is_judged_on_the_same_files_from_anywhere(home: Path, made: Outcome, tmp_path: Path) -> None:
    done = inside("evaluate", f"path={home / made.run}", "format=json", cwd=tmp_path)
    assert done.status == 0, done.err
    judged, result = json.loads(done.out), json.loads((home / made.run / "result.json").read_text())
    assert (judged["errors"], judged["n"]) == (result["student"]["errors"], 12)
    assert judged["dataset_fingerprint"] == result["environment"]["dataset_fingerprint"]


def test_images_are_predicted_in_the_range_that_the_model_learnt(home: Path, made: Outcome) -> None:
    done = inside("predict", f"path={made.run}", "images=set/slides/patient0_0.tif", cwd=home)
    assert done.status == 0, done.err
    assert done.out.splitlines()[1].startswith("set/slides/patient0_0.tif,")


def test_without_a_range_the_one_that_fits_is_proposed(home: Path) -> None:
    done = inside("distill", *WORDS, *SHORT, "output_dir=none", cwd=home)
    assert (done.status, done.out) == (1, "")
    first, *_, last = done.err.splitlines()
    assert first == "60 image(s) cannot be decoded; mend or remove them:"
    assert last.strip() == (
        "dataset.range=[0,1] would scale the values of 60 of them to 0 … 255, dataset.range=image each from its own "
        "darkest to its lightest."
    )
    assert not (home / "none").exists()
