"""The same sweep again: which of its jobs are complete."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running import KD, TINY, Outcome, environment, inside, seal
from safetensors.numpy import load_file, save_file
from sweeping import COMMAND, JOBS, results


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


def test_a_job_whose_data_have_changed_in_place_is_not_complete(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (2, 2, 6, 8, 8), dtype=np.uint8)
    for part, classes in zip(("train", "test"), rows, strict=True):
        for name, images in zip("ab", classes, strict=True):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number, pixels in enumerate(images):
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{number}.png")
    small = ("dataset=image_folder", "dataset.size=8", "dataset.channels=1", "student.train.epochs=1", TINY[0])
    small += ("teacher=cnn_digits", "student=mlp_64")
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
