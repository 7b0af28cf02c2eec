"""`kd list` and `kd clean`: what the store holds, who uses it, and what may go."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from running import TINY, Outcome, files_below, inside, seal


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    done = inside("distill", *TINY, cwd=tmp_path_factory.mktemp("made"))
    assert done.status == 0, done.err
    return done


@pytest.fixture
def here(made: Outcome, tmp_path: Path) -> Path:
    shutil.copytree(made.run.parents[1], tmp_path / "outputs")
    return tmp_path


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    done = inside("list", "format=json", cwd=folder)
    assert (done.status, done.err) == (0, "")
    return {row["artifact"]: row for row in json.loads(done.out)}


def test_every_artifact_is_listed_with_what_it_is_and_who_uses_it(made: Outcome, here: Path) -> None:
    result, rows = made.result, listed(here)
    run = f"runs/{made.run.name}"
    teacher, student, baseline = (result[role]["artifact"] for role in ("teacher", "student", "baseline"))
    targets = result["stages"]["soft_targets"]["artifact"]
    assert set(rows) == {teacher, student, baseline, targets}
    assert {row["state"] for row in rows.values()} == {"complete"}
    assert {name: set(row["users"]) for name, row in rows.items()} == {
        teacher: {run, targets},
        targets: {run, student},
        student: {run},
        baseline: {run},
    }
    assert rows[teacher]["title"] == "cnn, 10 classes, cross-entropy"
    assert rows[student]["title"] == "mlp, 10 classes, Hinton"
    assert rows[baseline]["title"] == "mlp, 10 classes, cross-entropy"
    assert rows[targets]["title"] == "1,198 samples × 1 views × 10 classes"
    for name, row in rows.items():
        assert row["bytes"] == sum(path.stat().st_size for path in (here / "outputs" / name).iterdir())


def test_what_a_link_leads_to_takes_no_room(made: Outcome, here: Path) -> None:
    name, before = made.result["student"]["artifact"], listed(here)
    (here / "large").write_bytes(bytes(100_000))
    (here / "outputs" / name / "link").symlink_to(here / "large")
    assert listed(here)[name]["bytes"] == before[name]["bytes"]


def test_the_same_as_csv_and_as_a_table(here: Path) -> None:
    rows = list(csv.DictReader(inside("list", "format=csv", cwd=here).out.splitlines()))
    assert {row["artifact"]: row["users"].split() for row in rows} == {
        name: row["users"] for name, row in listed(here).items()
    }
    table = inside("list", cwd=here)
    assert table.err == ""
    assert "4 artifacts in outputs" in table.out
    assert "used by" in table.out


def test_an_empty_store_is_an_answer_and_stays_empty(tmp_path: Path) -> None:
    assert inside("list", "format=json", cwd=tmp_path).out == "[]\n"
    assert inside("clean", "yes=true", cwd=tmp_path).status == 0
    assert files_below(tmp_path) == []


def test_nothing_that_a_run_refers_to_is_removed(here: Path) -> None:
    before = files_below(here)
    done = inside("clean", "yes=true", cwd=here)
    assert (done.status, done.err) == (0, "Nothing to remove in outputs.\n")
    assert files_below(here) == before


def spoil(here: Path, made: Outcome) -> tuple[list[str], list[str]]:
    """A student that keeps what it was made from; a baseline that nothing names; leftovers: what goes, what stays."""
    outputs, result = here / "outputs", made.result
    student, baseline = (result[role]["artifact"] for role in ("student", "baseline"))
    (run,) = (outputs / "runs").iterdir()
    (run / "result.json").write_text(json.dumps({"status": "failed", "stages": {"student": {"artifact": student}}}))
    leftovers = [
        "teachers/.0123456789abcdef.partial",
        "students/0123456789abcdef.damaged-1",
        "teachers/fedcba9876543210",
    ]
    for name in leftovers:
        (outputs / name).mkdir()
        (outputs / name / "checkpoint.json").write_text("{}")
    return [baseline, *leftovers], [
        result["teacher"]["artifact"],
        result["stages"]["soft_targets"]["artifact"],
        student,
    ]


def test_what_nothing_refers_to_is_shown_first_and_removed_with_yes(made: Outcome, here: Path) -> None:
    goes, stays = spoil(here, made)
    before = files_below(here)
    shown = inside("clean", cwd=here)
    assert shown.status == 0
    assert f"{len(goes)} artifacts in outputs" in shown.out
    assert re.match(r"kd clean output_dir=\S+ yes=true removes them: ", shown.err)
    assert [path for path in files_below(here) if ".locks" not in path] == [p for p in before if ".locks" not in p]
    done = inside("clean", "yes=true", cwd=here)
    assert done.err.startswith(f"Removed {len(goes)} folders: ")
    assert sorted(listed(here)) == sorted(stays)
    assert all((here / "outputs" / name / "manifest.json").is_file() for name in stays)


def test_links_are_not_followed(here: Path, made: Outcome, tmp_path: Path) -> None:
    goes, _ = spoil(here, made)
    outside = tmp_path / "outside"
    shutil.copytree(here / "outputs" / goes[0], outside)
    kept = files_below(outside)
    (here / "outputs" / "students" / "1111111111111111").symlink_to(outside)
    (here / "outputs" / goes[1] / "link").symlink_to(outside)
    assert inside("clean", "yes=true", cwd=here).status == 0
    assert files_below(outside) == kept
    assert (here / "outputs" / "students" / "1111111111111111").is_symlink()
    assert not (here / "outputs" / goes[1]).exists()


def test_what_is_being_made_is_kept(here: Path, made: Outcome) -> None:
    goes, _ = spoil(here, made)
    with FileLock(here / "outputs" / ".locks" / "teachers-0123456789abcdef.lock"):
        done = inside("clean", "yes=true", cwd=here)
    assert (done.status, done.err.splitlines()[-1]) == (0, f"{goes[1]} is being made by another process: kept.")
    assert (here / "outputs" / goes[1] / "checkpoint.json").is_file()
    assert set(goes) & set(listed(here)) == {goes[1]}


def test_artifacts_that_name_each_other_keep_nobody(here: Path, made: Outcome) -> None:
    shutil.rmtree(here / "outputs" / "runs")
    teacher, targets = made.result["teacher"]["artifact"], made.result["stages"]["soft_targets"]["artifact"]
    for name, other in ((teacher, targets), (targets, teacher)):
        manifest = json.loads((here / "outputs" / name / "manifest.json").read_text())
        seal(here / "outputs" / name, {**manifest, "teacher": other})
    assert inside("clean", "yes=true", cwd=here).err.startswith("Removed 4 folders: ")
    assert listed(here) == {}


@pytest.mark.parametrize("change", [{"identity": [1]}, {"identity": {}}, {"created": 3}, {"created": "now"}])
def test_a_manifest_that_says_nonsense_is_listed_as_damaged(change: dict[str, Any], here: Path, made: Outcome) -> None:
    name = made.result["student"]["artifact"]
    folder = here / "outputs" / name
    seal(folder, {**json.loads((folder / "manifest.json").read_text()), **change})
    assert listed(here)[name]["state"] == "damaged"
