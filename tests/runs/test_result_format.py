"""A result of another format is named where a person asks for it, and loses nothing by it."""

import json
from pathlib import Path

import pytest
from running import inside

from kd_cli.store import run_folder

QUICK = ("teacher.train.epochs=1", "student.train.epochs=1")
FORMATS = [(None, "an earlier"), (2, "a later"), (10**30, "a later")]


def rewritten(folder: Path, number: int | None) -> str:
    """Gives the result in `folder` another format; how it is refused."""
    path = folder / "result.json"
    content = json.loads(path.read_text())
    content = {key: value for key, value in content.items() if key != "format"}
    path.write_text(json.dumps(content if number is None else {"format": number, **content}))
    which = dict(FORMATS)[number]
    return (
        f"{path} was written by {which} kd, whose format this one does not read. "
        "Run it anew into another output_dir=<folder>."
    )


@pytest.mark.parametrize("number", [number for number, _ in FORMATS])
def test_a_run_of_another_format_is_refused_by_its_name(number: int | None, tmp_path: Path) -> None:
    folder = made(tmp_path)
    said = rewritten(folder, number)
    for words in (("evaluate",), ("predict", "images=.")):
        refused = inside(*words, f"path={folder}", cwd=tmp_path)
        assert (refused.status, refused.out, refused.err) == (1, "", said + "\n")


def made(folder: Path) -> Path:
    done = inside("train-teacher", QUICK[0], cwd=folder)
    assert done.status == 0, done.err
    return done.run


@pytest.mark.parametrize("number", [number for number, _ in FORMATS])
def test_a_sweep_with_a_job_of_another_format_keeps_its_summary(number: int | None, tmp_path: Path) -> None:
    done = inside("sweep", *QUICK, "baseline=false", "temperature=2,3", cwd=tmp_path)
    assert done.status == 0, done.err
    said = rewritten(done.run / "temperature-2", number)
    before = {path.name: path.read_bytes() for path in done.run.glob("summary.*")}
    assert len(before) == 3
    again = inside("summarize", f"sweep={done.run}", cwd=tmp_path)
    assert (again.status, again.out, again.err) == (1, "", said + "\n")
    assert {path.name: path.read_bytes() for path in done.run.glob("summary.*")} == before


@pytest.mark.parametrize("number", [number for number, _ in FORMATS])
def test_what_a_run_of_another_format_uses_is_not_cleaned_away(number: int | None, tmp_path: Path) -> None:
    rewritten(made(tmp_path), number)
    assert inside("clean", "yes=true", cwd=tmp_path).err == "Nothing to remove in outputs.\n"


def test_over_a_result_of_another_format_a_new_one_is_written_and_keeps_it(tmp_path: Path) -> None:
    earlier = {"status": "completed", "student": {"artifact": "students/x"}}
    (tmp_path / "result.json").write_text(json.dumps(earlier))
    run_folder.mark_accepted(tmp_path, {"seed": 0})
    kept = {"format": 1, "seed": 0, "status": "interrupted", "replaces": earlier}
    assert run_folder.read(tmp_path) == kept
    assert next(iter(run_folder.read(tmp_path) or ())) == "format"
