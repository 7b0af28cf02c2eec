"""Artifacts, paths and formats that cannot be answered with."""

import shutil
from pathlib import Path

import pytest
from running import TINY, files_below, inside

from kd_cli.store.artifacts import REBUILD


@pytest.fixture
def stored(made: Path, tmp_path: Path) -> Path:
    """The same in a folder of its own, to be damaged."""
    shutil.copytree(made / "outputs", tmp_path / "outputs")
    return tmp_path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["teachers", "soft_targets", "students"])
def test_a_damaged_artifact_is_refused_by_name(kind: str, stored: Path) -> None:
    (folder,) = (stored / "outputs" / kind).iterdir()
    path = next(folder.glob("[lm]*.safetensors"))
    flip(path)
    done = inside("distill", *TINY, "baseline=false", cwd=stored)
    assert (done.status, done.out) == (1, "")
    expected = f"{path} is damaged: it differs from its manifest. {REBUILD}"
    assert done.err.splitlines()[-1] == expected
    assert "Traceback" not in done.err

    anew = inside("distill", *TINY, "baseline=false", "rebuild=true", cwd=stored)
    assert anew.status == 0, anew.err
    assert f"moved aside to {folder.name}.damaged-1, made anew" in anew.err
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, f"{folder.name}.damaged-1"]
    found = inside("distill", *TINY, "baseline=false", cwd=stored).result
    assert {stage["cached"] for stage in found["stages"].values()} == {True}


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_damaged_artifact_is_not_answered_with(command: str, stored: Path) -> None:
    (folder,) = (stored / "outputs" / "students").iterdir()
    flip(folder / "model.safetensors")
    words = ["images=."] if command == "predict" else []
    done = inside(command, f"path={folder}", *words, cwd=stored)
    path = folder / "model.safetensors"
    expected = f"{path} is damaged: it differs from its manifest. {REBUILD}\n"
    assert (done.status, done.out, done.err) == (1, "", expected)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_missing_path(command: str, tmp_path: Path) -> None:
    words = ["images=."] if command == "predict" else []
    expected = "path must be a run folder or a folder of teachers/ or students/, got 'nowhere'.\n"
    done = inside(command, "path=nowhere", *words, cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", expected)
    done = inside(command, *words, cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", "path must be given: path=…\n")
    assert files_below(tmp_path) == []


def test_a_folder_that_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = inside("evaluate", "path=empty", cwd=tmp_path)
    assert (done.status, done.err) == (1, "empty is not an artifact of kd: it has no manifest.json.\n")


def test_images_that_are_not_there(made: Path, tmp_path: Path) -> None:
    (student,) = (made / "outputs" / "students").iterdir()
    done = inside("predict", f"path={student}", "images=nowhere", cwd=tmp_path)
    expected = "images must be a file or a folder of images, got 'nowhere', which does not exist.\n"
    assert (done.status, done.out, done.err) == (1, "", expected)
    assert inside("predict", f"path={student}", cwd=tmp_path).err.startswith("images, sounds or texts must be given")


@pytest.mark.parametrize(
    ("command", "formats"), [("evaluate", "table, json, csv"), ("predict", "csv, json")], ids=["evaluate", "predict"]
)
def test_an_unknown_format(command: str, formats: str, tmp_path: Path) -> None:
    done = inside(command, "path=x", *(["images=x"] if command == "predict" else []), "format=xml", cwd=tmp_path)
    assert (done.status, done.err) == (1, f"format must be one of {formats}, got 'xml'.\n")
