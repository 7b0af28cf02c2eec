import csv
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps
from running import KD, files_below, inside, kd

import kd_cli
from kd_cli.data.decoding import FORMATS
from kd_cli.datasets.digits import digits

WORDS = ("teacher.train.epochs=15", "student.train.epochs=1", "baseline=false")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    assert inside("distill", *WORDS, cwd=folder).status == 0
    return folder / "outputs"


@pytest.fixture(scope="module")
def teacher(outputs: Path) -> Path:
    (folder,) = (outputs / "teachers").iterdir()
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """The first twenty test digits as PNG files, one of them in a folder below, and their classes."""
    folder = tmp_path_factory.mktemp("images")
    test = digits().test
    (pixels,) = test.samples.stream([torch.arange(20)], torch.device("cpu"))
    (folder / "more").mkdir()
    for k, image in enumerate(pixels):
        where = folder / "more" if k == 19 else folder
        Image.frombytes("L", (8, 8), bytes(image.flatten().tolist())).save(where / f"{k:02d}.png")
    (folder / ".DS_Store").write_text("no image")
    return folder, test.labels[:20].tolist()


def by_position(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(rows, key=lambda row: Path(row["file"]).name)


def test_csv_has_a_row_for_each_image(teacher: Path, images: tuple[Path, list[int]], tmp_path: Path) -> None:
    folder, labels = images
    done = kd("predict", f"path={teacher}", f"images={folder}", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    rows = by_position(list(csv.DictReader(done.out.splitlines())))
    assert list(rows[0]) == ["file", "class", "probability"]
    assert [Path(row["file"]).name for row in rows] == [f"{k:02d}.png" for k in range(20)]
    assert sum(row["class"] == str(label) for row, label in zip(rows, labels, strict=True)) >= 16
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)
    assert files_below(tmp_path) == []


def test_what_is_predicted_is_what_the_loaded_model_says(
    teacher: Path, images: tuple[Path, list[int]], tmp_path: Path
) -> None:
    done = inside("predict", f"path={teacher}", f"images={images[0]}", "format=json", cwd=tmp_path)
    rows = by_position(json.loads(done.out))
    loaded = kd_cli.load(teacher)
    (pixels,) = digits().test.samples.stream([torch.arange(20)], torch.device("cpu"))
    with torch.inference_mode():
        probabilities, classes = loaded.model(pixels.float() / 255).softmax(1).max(1)
    assert [row["class"] for row in rows] == [loaded.classes[k] for k in classes.tolist()]
    assert [row["probability"] for row in rows] == pytest.approx(probabilities.tolist(), abs=1e-5)


def test_a_single_file(teacher: Path, images: tuple[Path, list[int]], tmp_path: Path) -> None:
    path = images[0] / "03.png"
    done = inside("predict", f"path={teacher}", f"images={path}", "format=json", cwd=tmp_path)
    (row,) = json.loads(done.out)
    assert row["file"] == str(path)
    assert set(row) == {"file", "class", "probability"}


def test_more_images_than_a_batch(teacher: Path, images: tuple[Path, list[int]], tmp_path: Path) -> None:
    content = (images[0] / "00.png").read_bytes()
    (tmp_path / "many").mkdir()
    for k in range(300):
        (tmp_path / "many" / f"{k}.png").write_bytes(content)
    rows = json.loads(inside("predict", f"path={teacher}", "images=many", "format=json", cwd=tmp_path).out)
    assert len({row["file"] for row in rows}) == 300
    assert len({row["class"] for row in rows}) == 1


def test_a_run_folder_stands_for_its_student(outputs: Path, images: tuple[Path, list[int]], tmp_path: Path) -> None:
    (run,) = (outputs / "runs").iterdir()
    (student,) = (outputs / "students").iterdir()
    answers = [inside("predict", f"path={path}", f"images={images[0]}", cwd=tmp_path).out for path in (run, student)]
    assert answers[0] == answers[1]


def test_images_of_another_size_and_colour_are_fitted(teacher: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 17), (200, 10, 30)).save(tmp_path / "big.jpg")
    Image.new("RGBA", (5, 5), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    done = inside("predict", f"path={teacher}", "images=.", cwd=tmp_path)
    assert done.status == 0
    assert len(done.out.splitlines()) == 3


def test_images_that_cannot_be_decoded_are_all_listed_and_the_others_answered(teacher: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    bomb = Image.new("1", (20_000, 20_000))  # a few kilobytes
    bomb.save(tmp_path / "bomb.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "worse.jpg").write_bytes(b"")
    done = inside("predict", f"path={teacher}", "images=.", cwd=tmp_path)
    assert done.status == 1
    assert [line.partition(",")[0] for line in done.out.splitlines()] == ["file", "good.png"]
    first, *listed = done.err.splitlines()
    assert first == "3 image(s) cannot be decoded; mend or remove them:"
    assert [line.strip().partition(": ")[0] for line in listed] == ["bad.png", "bomb.png", "worse.jpg"]


def test_several_files_patterns_and_folders_are_answered_once_each(teacher: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b (1).png", "more/c.png", "more/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), 90).save(tmp_path / name)
    every = ["a.png", "b (1).png", "more/c.png", "more/d.png"]
    for words, files in (
        (["images=a.png,b (1).png,more"], every),
        (["images=*.png"], every[:2]),
        (["images=**/*.png"], every),
        (["images=[more,a.png,more/c.png]"], [every[2], every[3], every[0]]),
        (["a.png", "b (1).png", "more"], every),
    ):
        done = inside("predict", f"path={teacher}", *words, "format=json", cwd=tmp_path)
        assert (done.status, [row["file"] for row in json.loads(done.out)]) == (0, files), words
    done = inside("predict", f"path={teacher}", "images=a.png,gone.png", "format=json", cwd=tmp_path)
    assert (done.status, done.err) == (1, "1 name(s) are not there:\n  gone.png\n")
    assert [row["file"] for row in json.loads(done.out)] == ["a.png"]
    done = inside("predict", f"path={teacher}", "images=*.jpg", cwd=tmp_path)
    assert done.err == "images must be a file or a folder of images, got '*.jpg', which fits no file.\n"


def test_csv_has_the_line_ends_of_the_platform(teacher: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 90).save(tmp_path / "a.png")
    done = subprocess.run([KD, "predict", f"path={teacher}", "images=a.png"], cwd=tmp_path, capture_output=True)
    assert done.stdout.count(os.linesep.encode()) == done.stdout.count(b"\n") == 2
    assert b"\r\n" not in done.stdout or os.linesep == "\r\n"


def test_every_file_that_is_not_classified_is_named_and_the_status_says_so(teacher: Path, tmp_path: Path) -> None:
    for name in ("a/0.png", "a/1.JFIF", "2.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), 90).save(tmp_path / name, "JPEG" if name.endswith("JFIF") else None)
    for name in ("a/photo.raw", "notes.txt", "b.psd", "no_suffix", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    for hidden in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / "x.png").write_bytes(b"x")
    done = inside("predict", f"path={teacher}", "images=.", "format=json", cwd=tmp_path)
    assert [row["file"] for row in json.loads(done.out)] == ["2.bmp", "a/0.png", "a/1.JFIF"]
    assert done.status == 1
    assert done.err.splitlines() == [
        "4 file(s) are no images by their names, and are not classified:",
        *(f"  {name}" for name in ("a/photo.raw", "b.psd", "no_suffix", "notes.txt")),
    ]


def test_a_folder_behind_a_link_is_classified_too(
    teacher: Path, images: tuple[Path, list[int]], tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "linked").symlink_to(images[0], target_is_directory=True)
    done = inside("predict", f"path={teacher}", "images=pictures", "format=json", cwd=tmp_path)
    assert (done.status, len(json.loads(done.out))) == (0, 20)


@pytest.mark.parametrize("kind", ["DDS", "EPS"])
@pytest.mark.parametrize("name", ["x.png", "x"])
def test_a_file_of_another_format_is_refused_in_one_message(
    teacher: Path, kind: str, name: str, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8), (3, 100, 40)).save(tmp_path / name, kind)
    for cut in (None, 60):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:cut])
        done = inside("predict", f"path={teacher}", f"images={name}", cwd=tmp_path)
        assert (done.status, done.out) == (1, "")
        assert done.err == (
            "1 image(s) cannot be decoded; mend or remove them:\n"
            f"  {name}: no image of a kind that is read ({', '.join(FORMATS)})\n"
        )


def test_black_icons_on_a_transparent_ground_are_seen(
    teacher: Path, images: tuple[Path, list[int]], tmp_path: Path
) -> None:
    """The first test digit, drawn in black on nothing, is answered as it is in black on white."""
    digit = Image.open(images[0] / "00.png")
    black = Image.new("L", (8, 8), 0)
    (tmp_path / "icons").mkdir()
    Image.merge("LA", (black, digit)).save(tmp_path / "icons" / "clear.png")
    ImageOps.invert(digit).save(tmp_path / "icons" / "opaque.png")
    done = inside("predict", f"path={teacher}", "images=icons", "format=json", cwd=tmp_path)
    one, other = json.loads(done.out)
    assert (one["class"], one["probability"]) == (other["class"], pytest.approx(other["probability"], abs=0.01))


def test_a_folder_without_images(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = inside("predict", f"path={teacher}", "images=empty", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("images must be a folder that holds images (")
    assert done.err.endswith("), got 'empty'.\n")
