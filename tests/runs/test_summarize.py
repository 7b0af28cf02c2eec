"""The summary of a sweep, made from its jobs."""

import csv
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from faults.full_disk import disk
from running import Outcome, inside
from sweeping import JOBS


def test_summarize_makes_the_summary_again_from_the_jobs_alone(swept: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder = tmp_path / swept[1].run.name
    shutil.copytree(swept[1].run, folder)
    files = [folder / f"summary.{kind}" for kind in ("csv", "json", "txt")]
    before = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    done = inside("summarize", f"sweep={folder}", cwd=tmp_path)
    assert done.status == 0, done.err
    assert [path.read_bytes() for path in files] == before
    assert done.out == files[2].read_text()
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        '{"format": 1}',
        '{"format": 1, "status": "completed"}',
        "\x00",
        '{"format": 1, "status": 1}',
        '{"format": 0}',
    ],
)
def test_summarize_names_a_damaged_or_missing_result_and_shows_the_others(
    swept: tuple[Path, Outcome], tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(swept[1].run, folder)
    (folder / JOBS[1] / "result.json").unlink()
    (folder / JOBS[2] / "result.json").write_text(damage)
    done = inside("summarize", f"sweep={folder}", cwd=tmp_path)
    assert done.status == 1
    assert "Traceback" not in done.err
    assert f"{JOBS[1]} missing: it has no result.json" in done.err.splitlines()
    assert any(line.startswith(f"{JOBS[2]} damaged: {folder / JOBS[2]}") for line in done.err.splitlines())
    statuses = [job["status"] for job in json.loads((folder / "summary.json").read_text())["jobs"]]
    assert statuses == ["completed", "missing", "damaged", "completed"]
    assert len([line for line in done.out.splitlines() if "%" in line and line.startswith("│")]) >= 2


def test_summarize_of_no_sweep_is_refused(tmp_path: Path) -> None:
    none = inside("summarize", "sweep=nothing", cwd=tmp_path)
    assert (none.status, none.out) == (1, "")
    assert none.err.startswith("sweep must be the folder of a sweep, got 'nothing'.")
    (tmp_path / "empty").mkdir()
    empty = inside("summarize", "sweep=empty", cwd=tmp_path)
    assert (empty.status, empty.out) == (1, "")
    assert empty.err.startswith("sweep must be the folder of a sweep, got 'empty'.")


BAD = {
    "infinite errors": lambda result: result["student"].update(errors=float("inf")),
    "no number of errors": lambda result: result["student"].update(errors=float("nan")),
    "errors below none": lambda result: result["student"].update(errors=-1),
    "half an error": lambda result: result["student"].update(errors=0.5),
    "errors without end": lambda result: result["student"].update(errors=10**400),
    "a large number of errors": lambda result: result["student"].update(errors=1e300),
    "errors are a list": lambda result: result["student"].update(errors=[1]),
    "a mapping as seed": lambda result: result.update(seed={"a": 1}),
    "a list as temperature": lambda result: result.update(temperature=[1]),
    "a mapping as config": lambda result: result.update(config={}),
    "a mapping as artifact": lambda result: result["student"].update(artifact={}),
    "a lone surrogate": lambda result: result.update(dataset="\ud800"),
    "a lone surrogate among the overrides": lambda result: result["overrides"].append("a=\udfff"),
    "overrides are numbers": lambda result: result.update(overrides=[1]),
    "no student but a word": lambda result: result.update(student="errors"),
    "members are a number": lambda result: result["teacher"].update(members=3),
    "an environment that is none": lambda result: result.update(environment=3),
}


@pytest.mark.parametrize("how", [*BAD, "a pipe", "a device", "a folder", "terabytes", "depth", "a link to nowhere"])
def test_one_bad_result_does_not_end_the_summary(how: str, swept: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(swept[1].run, folder)
    path = folder / JOBS[2] / "result.json"
    result = json.loads(path.read_text())
    path.unlink()
    if how in BAD:
        BAD[how](result)
        path.write_text(json.dumps(result))
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a folder":
        path.mkdir()
    elif how == "terabytes":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif how == "depth":
        path.write_text('{"a":' * 50_000)
    else:
        path.symlink_to("/dev/zero" if how == "a device" else "nowhere")
    done = inside("summarize", f"sweep={folder}", cwd=tmp_path)
    assert done.status == 1
    assert "Traceback" not in done.err
    jobs = json.loads((folder / "summary.json").read_text())["jobs"]
    assert [job["status"] for job in jobs] == ["completed", "completed", "damaged", "completed"]
    assert len(list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))) == 4
    assert len(results_shown(done.out)) >= 3


def results_shown(out: str) -> list[str]:
    return [line for line in out.splitlines() if "%" in line and line.startswith("│")]


def test_a_full_disk_at_the_summary_is_one_message_and_leaves_the_last_one_whole(
    swept: tuple[Path, Outcome], tmp_path: Path
) -> None:
    try:
        with disk(400) as full:
            folder = full / "copy"
            shutil.copytree(swept[1].run, folder)
            before = {path.name: path.read_bytes() for path in folder.glob("summary.*")}
            shutil.rmtree(folder / JOBS[0])  # what would be written is another summary
            with suppress(OSError), (full / "rest").open("wb", buffering=0) as file:
                while file.write(b"\0" * 4096):
                    pass
            done = inside("summarize", f"sweep={folder}", cwd=tmp_path)
            assert done.status == 1
            assert done.err.splitlines()[-1].startswith(f"output_dir must be a folder with room, got {str(folder)!r}.")
            assert "Traceback" not in done.err
            assert len(results_shown(done.out)) >= 3, "the table is shown all the same"
            assert {path.name: path.read_bytes() for path in folder.glob("*summary.*")} == before
    except PermissionError:
        pytest.skip("a disk may not be mounted here")
