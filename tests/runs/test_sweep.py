"""What a sweep runs, and what it leaves."""

import csv
import json
import re
from pathlib import Path

import pytest
import results_by_hand as by_hand
from running import TINY, Outcome, files_below, inside
from sweeping import JOBS, results


def test_standard_output_is_the_sweeps_folder(swept: tuple[Path, Outcome]) -> None:
    folder, done = swept
    assert done.out.count("\n") == 1
    assert done.run.parent == folder / "outputs" / "sweeps"
    assert not (folder / "outputs" / "runs").exists()


def test_every_combination_has_a_folder_named_by_what_it_varies(swept: tuple[Path, Outcome]) -> None:
    made = results(swept[1].run)
    assert list(made) == JOBS
    for name, result in made.items():
        temperature, seed = re.findall(r"\d+", name)
        assert (result["temperature"], result["seed"]) == (float(temperature), int(seed))
        assert result["status"] == "completed"
        assert result["command"] == "sweep"
        assert {f"temperature={temperature}", f"seed={seed}", *TINY} == set(result["overrides"])
        assert {path.name for path in (swept[1].run / name).iterdir()} == {".hydra", "kd.log", "result.json"}


def test_the_teacher_is_trained_and_dumped_once_and_a_baseline_once_for_each_seed(swept: tuple[Path, Outcome]) -> None:
    folder, done = swept
    counted = {kind: len(list((folder / "outputs" / kind).iterdir())) for kind in ("teachers", "soft_targets")}
    assert counted == {"teachers": 1, "soft_targets": 1}
    assert len(list((folder / "outputs" / "students").iterdir())) == 4 + 2
    made = results(done.run)
    for stage in ("teacher", "soft_targets"):
        assert [result["stages"][stage]["cached"] for result in made.values()] == [False, True, True, True]
    assert [result["stages"]["baseline"]["cached"] for result in made.values()] == [False, False, True, True]
    assert [result["stages"]["student"]["cached"] for result in made.values()] == [False] * 4


def test_summary_json_and_csv_hold_every_job(swept: tuple[Path, Outcome]) -> None:
    folder = swept[1].run
    made = results(folder)
    summary = json.loads((folder / "summary.json").read_text())
    rows = list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))
    assert [row["job"] for row in summary["jobs"]] == [row["job"] for row in rows] == JOBS
    for job, row in zip(summary["jobs"], rows, strict=True):
        result = made[job["job"]]
        for role in ("teacher", "student", "baseline"):
            assert job[f"{role}_errors"] == int(row[f"{role}_errors"]) == result[role]["errors"]
        assert job["gap_recovered"] == result["gap_recovered"]
    assert summary["settings"] == ["temperature"]
    assert [(group["temperature"], group["n"]) for group in summary["groups"]] == [("1.0", 2), ("4.0", 2)]


def test_one_table_of_all_jobs_and_one_over_the_seeds(swept: tuple[Path, Outcome]) -> None:
    err = swept[1].err
    made = results(swept[1].run)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in err.splitlines() if line.startswith("│")]
    for name, result in made.items():
        temperature, seed = re.findall(r"\d+", name)
        errors = [str(result[role]["errors"]) for role in ("teacher", "student", "baseline")]
        assert any(row[:5] == [f"{temperature}.0", seed, *errors] for row in rows), name
    assert len([row for row in rows if any("±" in cell for cell in row)]) == 2
    assert "test errors   " not in err, "a sweep has no table for each job"


def test_every_path_can_be_pasted_into_a_command(swept: tuple[Path, Outcome]) -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._/-]+", path) for path in files_below(swept[0]))


def test_a_job_of_a_sweep_can_be_evaluated(swept: tuple[Path, Outcome], tmp_path: Path) -> None:
    job = swept[1].run / JOBS[2]
    done = inside("evaluate", f"path={job}", "format=json", cwd=tmp_path)
    assert json.loads(done.out)["errors"] == json.loads((job / "result.json").read_text())["student"]["errors"]


def test_a_failing_job_does_not_stop_the_others(tmp_path: Path) -> None:
    done = inside("sweep", *TINY, "baseline=false", "student.model.widths=[4],[0],[5]", cwd=tmp_path)
    assert done.status == 1
    assert "Traceback" not in done.err
    made = results(done.run)
    assert sorted(result["status"] for result in made.values()) == ["completed", "completed", "failed"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in made)
    (failed,) = (name for name, result in made.items() if result["status"] == "failed")
    message = "student.model.widths must be a list of whole numbers ≥ 1, got [0]."
    assert made[failed]["error"] == message
    assert made[failed]["temperature"] == 4.0, "what was asked for is told of a failed job too"
    assert (
        f"Job {failed} (student.model.widths=[0]) failed: {message} Its log: {done.run / failed / 'kd.log'}"
        in done.err.splitlines()
    )
    summary = json.loads((done.run / "summary.json").read_text())
    assert len(summary["jobs"]) == 3
    assert summary["settings"] == ["student.model.widths"]


def test_a_value_outside_its_rule_fails_its_job_alone(tmp_path: Path) -> None:
    done = inside("sweep", *TINY, "baseline=false", "temperature=0,2", cwd=tmp_path)
    assert done.status == 1
    made = results(done.run)
    assert made["temperature-0"]["error"] == "temperature must be a number > 0, got 0.0."
    assert made["temperature-2"]["status"] == "completed"


def test_another_command_has_another_folder_and_a_name_can_be_given(tmp_path: Path) -> None:
    one = inside("sweep", *TINY, "baseline=false", "temperature=2,3", cwd=tmp_path)
    named = inside("sweep", *TINY, "baseline=false", "temperature=2,3", "sweep.name=mine", cwd=tmp_path)
    other = inside("sweep", *TINY, "baseline=false", "temperature=2,5", cwd=tmp_path)
    assert (one.status, named.status, other.status) == (0, 0, 0)
    assert named.run == tmp_path / "outputs" / "sweeps" / "mine"
    assert len({one.run, named.run, other.run}) == 3
    for result in results(named.run).values():
        assert "sweep.name=mine" not in result["overrides"]


def test_multirun_of_distill_is_a_sweep(tmp_path: Path) -> None:
    done = inside("distill", "--multirun", *TINY, "baseline=false", "temperature=2,3", cwd=tmp_path)
    assert done.status == 0, done.err
    assert sorted(results(done.run)) == ["temperature-2", "temperature-3"]
    assert (done.run / "summary.csv").is_file()


def test_a_range_of_seeds_with_a_teacher_each(tmp_path: Path) -> None:
    done = inside("sweep", *TINY, "baseline=false", "seed=range(2)", "teacher.seed=${seed}", cwd=tmp_path)
    assert done.status == 0, done.err
    assert sorted(results(done.run)) == ["seed-0", "seed-1"]
    assert len(list((tmp_path / "outputs" / "teachers").iterdir())) == 2


def test_a_sweep_of_one_job(tmp_path: Path) -> None:
    done = inside("sweep", *TINY, "baseline=false", cwd=tmp_path)
    assert done.status == 0, done.err
    (name,) = results(done.run)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)


def test_a_sweep_over_an_unknown_choice_names_it(tmp_path: Path) -> None:
    refused = inside("sweep", "student=mlp_46", "temperature=1,4", cwd=tmp_path)
    assert refused.status == 1
    assert refused.err.startswith("student must be one of ")
    assert "got 'mlp_46'. Did you mean 'mlp_64'?" in refused.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    "key", ["teacher.generalist.seed", "+teacher.members.0.seed", "transfer.dataset.seed", "my_seed"]
)
def test_jobs_that_differ_in_any_key_that_ends_in_seed_are_one_group(key: str, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        roles = ("student", "baseline")
        figures = {role: by_hand.model(10 + seed, artifact=f"students/{role}{seed}") for role in roles}
        by_hand.job(tmp_path, f"job-{seed}", [f"{key}={seed}"], **figures)
    done = inside("summarize", f"sweep={tmp_path}", cwd=tmp_path)
    assert done.status == 0, done.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["settings"], [group["n"] for group in summary["groups"]]) == ([], [3])
    assert summary["groups"][0]["student_errors_mean"] == 11
    assert key.lstrip("+") in done.out.replace("\n", ""), "the table says which seed a job had"


def test_jobs_whose_numbers_are_equal_are_equal(tmp_path: Path) -> None:
    done = inside("sweep", *TINY, "baseline=false", "student.train.clip=1,1.0,2", cwd=tmp_path)
    assert done.status == 0, done.err
    assert len(results(done.run)) == 2
    assert len(list((tmp_path / "outputs" / "students").iterdir())) == 2
