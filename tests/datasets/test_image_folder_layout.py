"""How a folder of images must be laid out."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from image_files import draw, load_folder, refusal_of
from PIL import Image

from kd_cli.data.splits import without_classes
from kd_cli.errors import ConfigError, DataError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_names_in_two_forms_of_unicode_are_one_class(tree):
    draw(tree / "train" / COMPOSED / "x.png", 1)
    draw(tree / "test" / DECOMPOSED / "x.png", 32)
    dataset = load_folder(tree)
    assert dataset.classes == (COMPOSED, "cat", "dog") or dataset.classes == (*sorted(["cat", "dog", COMPOSED]),)
    assert dataset.classes[int(dataset.test.labels[0])] == COMPOSED
    part = without_classes(dataset.train, "transfer.only_classes", [DECOMPOSED], dataset.classes, omit=False)
    assert [Path(path).parent.name for path in part.samples.paths] == [COMPOSED]


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
            pixels = np.random.default_rng(k + 4 * (part == "test")).integers(0, most + 1, (6, 6), dtype=np.uint8)
            (root / part / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / part / "ab"[k % 2] / f"{k}.png")


@pytest.mark.parametrize(("channels", "most"), [(1, 2048), (3, 1182)])
def test_a_size_whose_batches_would_fill_memory_is_refused(tree, channels, most):
    with pytest.raises(ConfigError) as refusal:
        load_folder(tree, channels=channels, size=most + 1)
    assert (
        str(refusal.value) == f"dataset.size must be at most {most} with dataset.channels={channels}, got {most + 1}."
    )


def test_a_missing_training_split_is_told_with_the_layout(tree):
    (tree / "train").rename(tree / "elsewhere")
    assert refusal_of(lambda: load_folder(tree)) == (
        f"dataset.root must be a folder of images, got {str(tree)!r}, where there is test/ and no train/. "
        "Lay it out as train/<class>/<image> or <class>/<image>, or give another dataset.root=<folder>."
    )


def test_a_part_without_images_is_refused(tree):
    for path in (tree / "test").rglob("*.*"):
        path.unlink()
    with pytest.raises(DataError, match=r"holds no images \("):
        load_folder(tree)


OF_SIZE = "dataset.size must be a whole number of pixels ≥ 1, or [height, width], got"
OF_RANGE = "dataset.range must be null, image or [<darkest value>, <lightest value>], got"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, f"{OF_SIZE} 0."),
        ({"size": 2.5}, f"{OF_SIZE} 2.5."),
        ({"size": [8, 0]}, f"{OF_SIZE} [8, 0]."),
        ({"size": [8]}, f"{OF_SIZE} [8]."),
        (
            {"size": [3000, 2000]},
            "dataset.size must be [height, width] of at most 1,398,101 pixels with dataset.channels=3, "
            "got [3000, 2000].",
        ),
        ({"channels": 2}, "dataset.channels must be 1 (grey) or 3 (colour), got 2."),
        ({"workers": -1}, "dataset.workers must be a whole number ≥ 0, got -1."),
        ({"range": "auto"}, f"{OF_RANGE} 'auto'."),
        ({"range": [1, 1]}, f"{OF_RANGE} [1, 1]."),
        ({"duplicates": "keep"}, "dataset.duplicates must be one of refuse, allow, drop, got 'keep'."),
        (
            {"group": "p[0-9]+"},
            "dataset.group must be a regular expression with a group in parentheses, got 'p[0-9]+'.",
        ),
        (
            {"pattern": "(x"},
            "dataset.pattern must be a regular expression with a group in parentheses, got '(x'. It is none: missing "
            "), unterminated subpattern at position 0.",
        ),
        (
            {"label": "kind"},
            "dataset.label must be null where there is no table of labels, got 'kind'. "
            "Name one: dataset.labels=<file>.",
        ),
        (
            {"labels": "x.csv", "pattern": "(x)"},
            "dataset.pattern must be null where a table has the labels, got '(x)'.",
        ),
    ],
)
def test_arguments_outside_their_rule_are_refused(tree, changes, message):
    with pytest.raises(ConfigError) as refusal:
        load_folder(tree, **changes)
    assert str(refusal.value) == message
