"""Names that people and strangers give to folders of images, and everything that prints them."""

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from running import KD, environment, files_below, inside
from shown import ESCAPE, LATIN, hides

from kd_cli.screen import shown

OUT = "größe"


CLASSES = ("[cat]", "[red]", f"a{ESCAPE}", "=1+1", "für", LATIN)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of classes with odd names, in an output folder whose name no ASCII holds."""
    folder = tmp_path_factory.mktemp("odd")
    for part in ("train", "test"):
        for number, name in enumerate(CLASSES):
            for k in range(2):
                path = folder / f"images{LATIN}" / part / name / f"={k}{LATIN}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), 20 * number + k + 3 * (part == "test")).save(path)
    done = inside("train-teacher", *FOLDER, *TEACHER, f"output_dir={OUT}", cwd=folder)
    assert done.status == 0, done.err
    assert not hides(done.out + done.err)
    return folder


FOLDER = (
    "dataset=image_folder", "dataset.size=8", "dataset.channels=1", "dataset.workers=0", f"dataset.root=images{LATIN}",
)  # fmt: skip
TEACHER = ("teacher=mlp_1200", "teacher.model.widths=[4]", "teacher.train.epochs=1")


def teacher_of(odd: Path) -> Path:
    return next((odd / OUT / "teachers").iterdir())


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("command", ["evaluate", "predict", "list"])
def test_what_answers_shows_every_name(command: str, form: str, odd: Path) -> None:
    where = [f"output_dir={OUT}"] if command == "list" else [f"path={teacher_of(odd)}"]
    images = [f"images=images{LATIN}/test"] if command == "predict" else []
    form = "csv" if (command, form) == ("predict", "table") else form
    done = inside(command, *where, *images, f"format={form}", cwd=odd)
    assert done.status == 0, done.err
    assert not hides(done.out + done.err)
    if command == "evaluate" and form != "csv":
        seen = json.loads(done.out)["per_class"] if form == "json" else done.out
        for name in CLASSES if form == "json" else map(shown, CLASSES):
            assert name in seen
    if command == "predict":
        assert len(json.loads(done.out) if form == "json" else list(csv.DictReader(io.StringIO(done.out)))) == 12
    if (command, form) == ("evaluate", "json"):
        assert json.loads(done.out)["path"] == str(teacher_of(odd))


@pytest.mark.parametrize("where", ["output_dir", "cwd"])
def test_an_output_folder_that_is_no_utf8_is_refused_before_any_work(where: str, odd: Path, tmp_path: Path) -> None:
    there = tmp_path / (LATIN if where == "cwd" else "plain")
    there.mkdir()
    out = "outputs" if where == "cwd" else LATIN
    done = inside("train-teacher", *FOLDER[:-1], f"dataset.root={odd}/images{LATIN}", f"output_dir={out}", cwd=there)
    assert done.status == 1
    assert done.err.startswith("output_dir must be a folder whose whole path is UTF-8, got '")
    assert done.err.count("\n") == 1
    assert files_below(there) == []


def test_a_predicted_class_is_no_formula(odd: Path) -> None:
    done = inside("predict", f"path={teacher_of(odd)}", f"images=images{LATIN}/test/=1+1", cwd=odd)
    assert done.status == 0, done.err
    assert all(not cell.startswith("=") for row in csv.reader(io.StringIO(done.out)) for cell in row)


def test_the_log_of_a_run_shows_every_name(odd: Path) -> None:
    logs = list((odd / OUT / "runs").glob("*/kd.log"))
    assert logs
    for log in logs:
        assert not hides(log.read_text("utf-8"))


def test_a_stored_model_is_the_same_under_every_locale(odd: Path) -> None:
    words = ["evaluate", f"path={teacher_of(odd)}", "format=json"]
    there = environment(LC_ALL="C", PYTHONUTF8="0")
    del there["PYTHONIOENCODING"]
    done = subprocess.run([str(KD), *words], cwd=odd, env=there, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["per_class"]) == sorted(CLASSES)
    again = subprocess.run(
        [str(KD), "train-teacher", *FOLDER, *TEACHER, f"output_dir={OUT}"], cwd=odd, env=there, capture_output=True
    )
    assert again.returncode == 0, again.stderr
    assert b"found in" in again.stderr  # the same identity, and so the same names in the same order
    assert os.fsencode(OUT) in again.stdout  # the path as it is, to be used
    assert Path(os.fsdecode(again.stdout.rstrip(b"\n")), "result.json").is_file()
    assert again.stderr.isascii()
