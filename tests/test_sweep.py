import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.full_disk import disk
from PIL import Image
from running import KD, TINY, Outcome, environment, files_below, inside, kd, seal
from safetensors.numpy import load_file, save_file

COMMAND = ("sweep", "temperature=1,4", "seed=0,1", *TINY)
JOBS = ["temperature-1_seed-0", "temperature-1_seed-1", "temperature-4_seed-0", "temperature-4_seed-1"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The working folder of a sweep by the installed command, and what it printed."""
    folder = tmp_path_factory.mktemp("swept")
    done = kd(*COMMAND, cwd=folder)
    assert done.status == 0, done.err
    return folder, done


def results(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))}


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


def test_the_same_command_finds_its_folder_again_and_runs_no_job_that_is_complete(swept: tuple[Path, Outcome]) -> None:
    folder, first = swept
    before = results(first.run)
    again = inside(*COMMAND, "device=cpu", cwd=folder)
    assert (again.status, again.out) == (0, first.out)
    assert results(first.run) == before
    for name in JOBS:
        assert again.err.splitlines().count(f"Job {name} is complete, and not run again (resume=false would).") == 1
    table = next(line for line in first.err.splitlines() if "gap recovered" in line)
    assert first.err[first.err.index(table) :] == again.err[again.err.index(table) :]


def test_with_resume_false_every_job_runs_again(swept: tuple[Path, Outcome]) -> None:
    folder, first = swept
    before = results(first.run)
    again = inside(*COMMAND, "resume=false", cwd=folder)
    assert (again.status, again.out) == (0, first.out), "resume is no part of the sweep's name"
    after = results(first.run)
    assert list(after) == JOBS
    for name in JOBS:
        assert {stage["cached"] for stage in after[name]["stages"].values()} == {True}
        assert after[name]["student"]["errors"] == before[name]["student"]["errors"]
        assert after[name]["config"] == before[name]["config"]


def test_a_job_that_is_missing_damaged_or_did_not_complete_is_run_again(tmp_path: Path) -> None:
    command = ("sweep", *TINY, "baseline=false", "temperature=1,2,3,4")
    first = inside(*command, cwd=tmp_path)
    before = results(first.run)
    paths = [first.run / f"temperature-{k}" / "result.json" for k in (1, 2, 3)]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:100])
    failed = {**before["temperature-3"], "status": "failed", "error": "It went wrong."}
    del failed["student"]
    paths[2].write_text(json.dumps(failed))
    again = inside(*command, cwd=tmp_path)
    assert (again.status, again.out) == (0, first.out)
    after = results(first.run)
    assert "error" not in after["temperature-3"], "nothing of an earlier attempt is left"
    assert after["temperature-4"] == before["temperature-4"]
    assert re.findall(r"Job (\S+) is complete", again.err) == ["temperature-4"]
    for name in before:
        assert after[name]["student"]["artifact"] == before[name]["student"]["artifact"]
        assert after[name]["status"] == "completed"


def test_equal_jobs_run_once(tmp_path: Path) -> None:
    done = inside("sweep", *TINY, "baseline=false", "temperature=4,4.0,5", cwd=tmp_path)
    assert done.status == 0, done.err
    assert sorted(results(done.run)) == ["temperature-4", "temperature-5"]
    assert sorted(path.name for path in done.run.iterdir() if path.is_dir()) == ["temperature-4", "temperature-5"]
    assert "Job temperature-4.0 is equal to temperature-4, and not run." in done.err.splitlines()
    assert len(json.loads((done.run / "summary.json").read_text())["jobs"]) == 2


def test_another_sweep_of_the_same_name_does_not_pass_for_this_one(tmp_path: Path) -> None:
    for weight in ("0.3", "0.7"):
        done = inside("sweep", *TINY, "baseline=false", "temperature=2", f"soft_weight={weight}", "sweep.name=mine",
                      cwd=tmp_path)  # fmt: skip
        assert done.status == 0, done.err
        assert [result["soft_weight"] for result in results(done.run).values()] == [float(weight)]


def test_an_interrupted_sweep_shows_what_is_done_and_goes_on(tmp_path: Path) -> None:
    command = ("sweep", "teacher.train.epochs=2", "baseline=false", "student.train.epochs=1,100000")
    process = subprocess.Popen(
        [str(KD), *command], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in a background job
    )  # fmt: skip
    while not list(tmp_path.glob("outputs/sweeps/*/student.train.epochs-100000/result.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 130
    assert "Traceback" not in err
    made = results(Path(out.rstrip()))
    assert {name: result["status"] for name, result in made.items()} == {
        "student.train.epochs-1": "completed", "student.train.epochs-100000": "interrupted"
    }  # fmt: skip
    assert "interrupted" in next(line for line in err.splitlines() if line.startswith("│") and "100000" in line)
    assert err.splitlines()[-1] == "Interrupted: the same command runs the jobs that are missing or did not complete."


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


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"status": "completed"}', "\x00", '{"status": 1, "overrides": 3}'])
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


def test_a_job_of_a_sweep_can_be_evaluated(swept: tuple[Path, Outcome], tmp_path: Path) -> None:
    job = swept[1].run / JOBS[2]
    done = inside("evaluate", f"path={job}", "format=json", cwd=tmp_path)
    assert json.loads(done.out)["errors"] == json.loads((job / "result.json").read_text())["student"]["errors"]


def test_a_job_whose_data_have_changed_in_place_is_not_complete(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (2, 2, 6, 8, 8), dtype=np.uint8)
    for part, classes in zip(("train", "test"), rows, strict=True):
        for name, images in zip("ab", classes, strict=True):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number, pixels in enumerate(images):
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{number}.png")
    small = ("dataset=image_folder", "dataset.size=8", "dataset.channels=1", "student.train.epochs=1", TINY[0])
    words = ("sweep", *small, "baseline=false", "temperature=2,3")
    assert inside(*words, cwd=tmp_path).status == 0
    assert inside(*words, cwd=tmp_path).err.count("is complete, and not run again") == 2
    Image.fromarray(rows[0, 0, 0] // 2).save(tmp_path / "data" / "train" / "a" / "0.png")
    again = inside(*words, cwd=tmp_path)
    assert again.status == 0
    assert "is complete" not in again.err
    assert len(list((tmp_path / "outputs" / "teachers").iterdir())) == 2
    shutil.rmtree(tmp_path / "data")
    assert inside(*words, cwd=tmp_path).err.count("is complete, and not run again") == 2, "nothing could be done anew"


@pytest.mark.parametrize("made", ["overwritten", "trained anew"])
def test_a_job_whose_teacher_is_another_under_the_same_path_is_not_complete(made: str, tmp_path: Path) -> None:
    """A checkpoint file that was overwritten, and a run folder whose teacher is another one now."""

    def teacher(seed: int) -> str:
        done = inside("train-teacher", TINY[0], f"teacher.seed={seed}", "hydra.run.dir=outputs/runs/one", cwd=tmp_path)
        return str(done.result["teacher"]["artifact"])

    def place(artifact: str) -> None:
        shutil.copy(tmp_path / "outputs" / artifact / "model.safetensors", tmp_path / "teacher.safetensors")

    words = {
        "overwritten": ("teacher=checkpoint", "model@teacher.model=cnn", "teacher.path=teacher.safetensors"),
        "trained anew": ("teacher=artifact", "teacher.path=outputs/runs/one"),
    }[made]
    command = ("sweep", *words, *TINY[1:], "baseline=false", "temperature=2,3")
    place(teacher(0))
    first = inside(*command, cwd=tmp_path)
    before = results(first.run)
    assert inside(*command, cwd=tmp_path).err.count("is complete, and not run again") == 2
    place(teacher(1))
    again = inside(*command, cwd=tmp_path)
    assert (again.status, again.err.count("is complete")) == (0, 0)
    after = results(again.run)
    assert all(after[job]["student"]["artifact"] != before[job]["student"]["artifact"] for job in before)
    (tmp_path / "teacher.safetensors").unlink()
    shutil.rmtree(tmp_path / "outputs" / "teachers")
    assert inside(*command, cwd=tmp_path).err.count("is complete, and not run again") == 2, "nobody can tell"


def test_a_job_whose_artifact_holds_other_weights_is_not_complete(tmp_path: Path) -> None:
    """The same recipe, trained anew where it ends in other bits."""
    command = ("sweep", *TINY, "baseline=false", "temperature=2,3")
    (before, _) = results(inside(*command, cwd=tmp_path).run).values()
    teacher = tmp_path / "outputs" / before["teacher"]["artifact"]
    weights = {name: value * 1.5 for name, value in load_file(teacher / "model.safetensors").items()}
    save_file(weights, teacher / "model.safetensors")
    content = (teacher / "model.safetensors").read_bytes()
    manifest = json.loads((teacher / "manifest.json").read_text())
    manifest["files"]["model.safetensors"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    seal(teacher, manifest)
    again = inside(*command, cwd=tmp_path)
    assert (again.status, again.err.count("is complete")) == (0, 0)
    after = results(again.run)["temperature-2"]
    assert after["student"]["artifact"] != before["student"]["artifact"]


def test_in_another_order_it_is_the_same_sweep_and_no_job_counts_twice(swept: tuple[Path, Outcome]) -> None:
    folder, first = swept
    again = inside("sweep", "seed=0,1", *TINY, "temperature=1,4", cwd=folder)
    assert (again.status, again.out) == (0, first.out)
    summary = json.loads((first.run / "summary.json").read_text())
    assert len(summary["jobs"]) == 4
    assert [group["n"] for group in summary["groups"]] == [2, 2]


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
        job = tmp_path / f"job-{seed}"
        job.mkdir()
        figures = {
            role: {"errors": 10 + seed, "artifact": f"students/{role}{seed}"} for role in ("student", "baseline")
        }
        result = {"status": "completed", "overrides": [f"{key}={seed}"], "temperature": 4.0, "seed": 0, **figures}
        (job / "result.json").write_text(json.dumps(result))
    done = inside("summarize", f"sweep={tmp_path}", cwd=tmp_path)
    assert done.status == 0, done.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["settings"], [group["n"] for group in summary["groups"]]) == ([], [3])
    assert summary["groups"][0]["student_errors_mean"] == 11
    assert key.lstrip("+") in done.out.replace("\n", ""), "the table says which seed a job had"


def test_an_earlier_sweep_is_no_answer_to_a_refused_one(tmp_path: Path) -> None:
    words = ("sweep", *TINY, "baseline=false", "temperature=2,3")
    assert inside(*words, cwd=tmp_path).status == 0
    refused = inside(*words, "output_dir=p1,p2", cwd=tmp_path)
    assert (refused.status, refused.out) == (1, "")
    assert "gap recovered" not in refused.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]


def test_two_equal_sweeps_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    """Else one could put `interrupted` over what the other has completed, just before its table is made."""
    command = [str(KD), "sweep", *TINY, "baseline=false", "temperature=2,3"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes) for _ in range(2)]
    told = [process.communicate(timeout=900) for process in both]
    for process, (_, err) in zip(both, told, strict=True):
        assert process.returncode == 0, err
        assert "interrupted" not in err
    assert told[0][0] == told[1][0]
    waited, ran = sorted(told, key=lambda each: "is complete, and not run again" not in each[1])
    assert waited[1].count("is complete, and not run again") == 2
    assert "waiting for it" in waited[1]
    assert "is complete" not in ran[1]


def test_a_job_that_runs_again_keeps_what_it_had_until_it_is_done(tmp_path: Path) -> None:
    command = ("sweep", *TINY, "baseline=false", "temperature=2", "sweep.name=mine")
    first = inside(*command, cwd=tmp_path)
    (before,) = results(first.run).values()
    failed = inside(*command, "student.model.widths=[0]", cwd=tmp_path)
    (after,) = results(first.run).values()
    assert failed.status == 1
    assert (after["status"], after["replaces"]) == ("failed", before)
    assert "student" not in after
    assert inside(*command, "student.model.widths=[0]", cwd=tmp_path).status == 1
    assert next(iter(results(first.run).values()))["replaces"] == before
    assert inside(*command, cwd=tmp_path).status == 0
    (again,) = results(first.run).values()
    assert "replaces" not in again
    assert again["student"]["errors"] == before["student"]["errors"]


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


def test_jobs_whose_numbers_are_equal_are_equal(tmp_path: Path) -> None:
    done = inside("sweep", *TINY, "baseline=false", "student.train.clip=1,1.0,2", cwd=tmp_path)
    assert done.status == 0, done.err
    assert len(results(done.run)) == 2
    assert len(list((tmp_path / "outputs" / "students").iterdir())) == 2


def test_a_job_that_starts_from_other_weights_under_the_same_path_is_not_complete(tmp_path: Path) -> None:
    def begin(seed: int) -> None:
        done = inside("distill", *TINY, f"seed={seed}", "hydra.run.dir=outputs/runs/one", cwd=tmp_path)
        assert done.status == 0, done.err

    command = ("sweep", *TINY, "student.train.start_from=outputs/runs/one", "temperature=2,3")
    begin(5)
    before = results(inside(*command, cwd=tmp_path).run)
    assert inside(*command, cwd=tmp_path).err.count("is complete, and not run again") == 2
    begin(6)
    again = inside(*command, cwd=tmp_path)
    assert (again.status, again.err.count("is complete")) == (0, 0)
    after = results(again.run)
    assert all(after[job]["baseline"]["artifact"] != before[job]["baseline"]["artifact"] for job in before)
    shutil.rmtree(tmp_path / "outputs" / "runs")
    assert inside("clean", "yes=true", cwd=tmp_path).status == 0
    assert inside(*command, cwd=tmp_path).err.count("is complete, and not run again") == 2, "what they use is kept"
    for each in after.values():
        assert len([name for name in each["artifacts"] if name.startswith("students/")]) == 4
