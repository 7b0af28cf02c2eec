"""Who uses an artifact, wherever the runs lie and whatever state they are in."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from listed import listed, remaining
from running import TINY, Outcome, inside, seal

from kd_cli.cli import job
from kd_cli.store import inventory


def test_artifacts_that_name_each_other_keep_nobody(here: Path, made: Outcome) -> None:
    shutil.rmtree(here / "outputs" / "runs")
    teacher, targets = made.result["teacher"]["artifact"], made.result["stages"]["soft_targets"]["artifact"]
    for name, other in ((teacher, targets), (targets, teacher)):
        manifest = json.loads((here / "outputs" / name / "manifest.json").read_text())
        seal(here / "outputs" / name, {**manifest, "deps": [other]})
    assert inside("clean", "yes=true", cwd=here).err.startswith("Removed 4 folders: ")
    assert listed(here) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"identity": [1]},
        {"identity": {}},
        {"created": 3},
        {"created": "now"},
        {"title": 3},
        {"deps": "teachers/0123456789abcdef"},
        {"deps": [1]},
    ],
)
def test_a_manifest_that_says_nonsense_is_listed_as_damaged(change: dict[str, Any], here: Path, made: Outcome) -> None:
    name = made.result["student"]["artifact"]
    folder = here / "outputs" / name
    seal(folder, {**json.loads((folder / "manifest.json").read_text()), **change})
    assert listed(here)[name]["state"] == "damaged"


@pytest.mark.parametrize("depth", [".", "runs/paper/first", "sweeps/exp/temps/temperature-1_seed-0", "a/b/c/d/e/f/g/h"])
def test_a_run_at_any_depth_keeps_what_it_uses(depth: str, here: Path, made: Outcome) -> None:
    outputs = here / "outputs"
    before, (run,) = remaining(here), (outputs / "runs").iterdir()
    (outputs / depth).mkdir(parents=True, exist_ok=True)
    for path in run.iterdir():
        path.rename(outputs / depth / path.name)
    run.rmdir()
    assert inside("clean", "yes=true", cwd=here).err == "Nothing to remove in outputs.\n"
    assert remaining(here) == before
    (outputs / depth / "result.json").unlink()
    assert inside("clean", "yes=true", cwd=here).err.startswith("Removed 4 folders: ")


@pytest.mark.parametrize("forced", [False, True])
def test_what_a_run_elsewhere_uses_goes_by_force_alone(forced: bool, tmp_path: Path) -> None:
    run = inside("train-teacher", TINY[0], f"hydra.run.dir={tmp_path}/else/where", cwd=tmp_path)
    (teacher,) = listed(tmp_path)
    assert (run.result["teacher"]["artifact"], run.result["output_dir"]) == (teacher, str(tmp_path / "outputs"))
    assert listed(tmp_path)[teacher]["users"] == [str(tmp_path / "else" / "where")]
    figures = json.loads(inside("evaluate", f"path={run.run}", "format=json", cwd=tmp_path).out)
    assert figures["errors"] == run.result["teacher"]["errors"]
    shutil.rmtree(tmp_path / "else")  # removed or moved away: who could tell?
    done = inside("clean", "yes=true", *(["force=true"] if forced else []), cwd=tmp_path)
    assert done.status == 0
    assert f"  {teacher} used by {tmp_path}/else/where" in done.err.splitlines()
    assert remaining(tmp_path) == (set() if forced else {teacher})


def test_what_was_made_for_a_run_elsewhere_is_kept_with_what_it_was_made_from(here: Path, made: Outcome) -> None:
    """A student remembers its targets, these their teacher: the run outside names the student alone."""
    outputs = here / "outputs"
    shutil.rmtree(outputs / "runs")
    student, baseline = (made.result[role]["artifact"] for role in ("student", "baseline"))
    (outputs / ".used_from_elsewhere").mkdir()
    note = {"run": "/some/where", "artifacts": [student]}
    (outputs / ".used_from_elsewhere" / "0123456789abcdef.json").write_text(json.dumps(note))
    assert "Removed 1 folders" in inside("clean", "yes=true", cwd=here).err
    stages = {stage["artifact"] for stage in made.result["stages"].values()}
    assert remaining(here) == stages - {baseline}


def test_a_teacher_of_another_output_folder_learns_who_uses_it(here: Path, made: Outcome) -> None:
    teacher = made.result["teacher"]["artifact"]
    shutil.rmtree(here / "outputs" / "runs")
    path = here / "outputs" / teacher
    done = inside("distill", "teacher=artifact", f"teacher.path={path}", TINY[1], "output_dir=mine", cwd=here)
    assert done.result["teacher"]["artifact"] == str(path)
    assert listed(here)[teacher]["users"][-1] == str(done.run)
    assert "Removed 3 folders" in inside("clean", "yes=true", cwd=here).err
    assert remaining(here) == {teacher}


def test_a_teacher_in_a_folder_of_no_store_is_used_and_nothing_left_beside_it(here: Path, made: Outcome) -> None:
    shutil.copytree(here / "outputs" / made.result["teacher"]["artifact"], here / "models" / "mine")
    words = ("teacher=artifact", "teacher.path=models/mine", TINY[1], "baseline=false", "output_dir=other")
    assert inside("distill", *words, cwd=here).status == 0
    assert [path.name for path in here.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in (here / "models").iterdir()] == ["mine"]


def unreadable(path: Path, how: str) -> None:
    path.unlink(missing_ok=True)
    if how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "zero":
        path.symlink_to("/dev/zero")
    elif how == "dangling":
        path.symlink_to("nowhere")
    elif how == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.write_bytes({"deep": b"[" * 100_000, "cut": b'{"a": ', "list": b"[1]", "bytes": b"\xff\xfe"}[how])


HARMS = ["pipe", "folder", "zero", "dangling", "sparse", "deep", "cut", "list", "bytes"]


@pytest.mark.parametrize("how", HARMS)
def test_where_a_result_cannot_be_read_nothing_goes_that_it_may_use(how: str, here: Path, made: Outcome) -> None:
    outputs, before = here / "outputs", remaining(here)
    (run,) = (outputs / "runs").iterdir()
    unreadable(run / "result.json", how)
    (outputs / "students" / "0123456789abcdef.damaged-1").mkdir()
    done = inside("clean", "yes=true", cwd=here)
    assert done.status == 0
    assert "Removed 1 folders" in done.err, "what was moved aside is no run's"
    assert remaining(here) == before
    assert f"outputs/runs/{run.name}/result.json" in done.err
    assert all(f"  {name}" in done.err.splitlines() for name in before)
    assert inside("clean", "yes=true", "force=true", cwd=here).status == 0
    assert remaining(here) == set()


@pytest.mark.parametrize("leads", ["nowhere", "../outside"])
def test_behind_a_link_there_may_be_runs(leads: str, here: Path) -> None:
    """As where somebody made room by moving outputs/runs to another disk."""
    before = remaining(here)
    (here / "outputs" / "runs").rename(here / "outside")
    (here / "outputs" / "runs").symlink_to(leads)
    done = inside("clean", "yes=true", cwd=here)
    assert f"  {Path('outputs/runs')} is a link: what lies behind it was not looked through." in done.err.splitlines()
    assert remaining(here) == before


def test_a_link_to_what_is_looked_through_anyway_is_no_doubt(here: Path) -> None:
    (run,) = (here / "outputs" / "runs").iterdir()
    (here / "outputs" / "latest").symlink_to(run)
    (here / "outputs" / "runs" / "loop").symlink_to("..")
    assert inside("clean", "yes=true", cwd=here).err == "Nothing to remove in outputs.\n"


def test_folders_without_number_are_not_all_looked_through(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = remaining(here)
    monkeypatch.setattr(inventory, "MOST_FOLDERS", 5)
    shutil.rmtree(here / "outputs" / "runs")
    for number in range(9):
        (here / "outputs" / f"folder-{number}").mkdir()
    assert "holds more than 5 folders" in inside("clean", "yes=true", cwd=here).err
    assert remaining(here) == before


def test_a_folder_that_may_not_be_read_may_hold_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, as whom the suite may run, may read everything: the system's refusal is given here."""
    before, scan = remaining(here), os.scandir

    def refuse(folder: Path) -> Any:
        if Path(folder).name == "runs":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(inventory.os, "scandir", refuse)
    done = inside("clean", "yes=true", cwd=here)
    assert "  outputs/runs cannot be looked through (Permission denied)." in done.err.splitlines()
    assert remaining(here) == before


def test_a_run_among_others_folders_keeps_what_it_uses(here: Path) -> None:
    before = remaining(here)
    (here / "outputs" / "students" / "anna").mkdir()
    (here / "outputs" / "runs").rename(here / "outputs" / "students" / "anna" / "runs")
    assert inside("clean", "yes=true", cwd=here).err == "Nothing to remove in outputs.\n"
    assert remaining(here) == before


def test_a_damaged_artifact_that_a_run_names_is_left_to_its_command(here: Path, made: Outcome) -> None:
    name = made.result["student"]["artifact"]
    (here / "outputs" / name / "manifest.json").write_text("{}")
    assert inside("clean", "yes=true", cwd=here).err == "Nothing to remove in outputs.\n"
    assert listed(here)[name]["state"] == "damaged"


def test_students_of_a_population_that_goes_on_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = []
    write = job.run_folder.update

    def looked_at(folder: Path, result: dict[str, Any]) -> None:
        write(folder, result)
        if result.get("status") == "completed":
            left.append([entry.name for entry in inventory.inventory(tmp_path / "outputs").unused()])

    monkeypatch.setattr(job.run_folder, "update", looked_at)
    words = ("temperature=1,2,3", "baseline=false", "hydra/launcher=population")
    assert inside("sweep", *TINY, *words, cwd=tmp_path).status == 0
    assert left == [[], [], []]


def test_a_result_that_names_its_models_alone_keeps_them(here: Path, made: Outcome) -> None:
    """As runs of before did, which did not yet list all that they use."""
    path = next((here / "outputs" / "runs").glob("*/result.json"))
    result = json.loads(path.read_text())
    models = {result[role]["artifact"] for role in ("teacher", "student", "baseline")}
    path.write_text(
        json.dumps({role: {"artifact": result[role]["artifact"]} for role in ("teacher", "student", "baseline")})
    )
    found = listed(here)
    assert all(found[name]["users"] for name in models)
    assert inside("clean", "yes=true", cwd=here).status == 0
    assert models <= listed(here).keys()
