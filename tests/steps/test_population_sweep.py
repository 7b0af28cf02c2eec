"""A sweep whose students are trained as one population."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from running import TINY, Outcome, files_below, inside, kd
from safetensors.torch import load_file

LAYERS = "model must be Normalise, Flatten, then Linear, ReLU and Dropout layers in a population, got {}."


COMMAND = ("sweep", "temperature=1,4", "seed=0,1", *TINY)
POPULATION = "hydra/launcher=population"


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Outcome]]:
    """The same sweep by Hydra's own launcher, and by the installed command as a population."""
    ordinary, population = (tmp_path_factory.mktemp(name) for name in ("ordinary", "population"))
    done = {
        "ordinary": (ordinary, inside(*COMMAND, cwd=ordinary)),
        "population": (population, kd(*COMMAND, POPULATION, cwd=population)),
    }
    for _, outcome in done.values():
        assert outcome.status == 0, outcome.err
    return done


def summary(outcome: Outcome) -> dict[str, Any]:
    return json.loads((outcome.run / "summary.json").read_text())


def test_the_same_jobs_and_artifacts_as_the_ordinary_sweep(sweeps: dict[str, tuple[Path, Outcome]]) -> None:
    (ordinary, one), (population, other) = sweeps["ordinary"], sweeps["population"]
    assert one.run.name == other.run.name
    left = [
        [name for name in files_below(folder / "outputs") if not name.startswith(".locks/")]
        for folder in (ordinary, population)
    ]
    assert left[0] == left[1], "all but the lock of what was being trained together"
    expected, found = summary(one), summary(other)
    assert found["settings"] == expected["settings"]
    for job, same in zip(found["jobs"], expected["jobs"], strict=True):
        assert set(job) == set(same)
        for key in (
            "job",
            "status",
            "temperature",
            "seed",
            "teacher_artifact",
            "student_artifact",
            "baseline_artifact",
        ):
            assert job[key] == same[key]
        for role in ("student", "baseline"):
            assert abs(job[f"{role}_errors"] - same[f"{role}_errors"]) <= 3  # of 599


def test_each_student_is_what_it_is_when_trained_alone(sweeps: dict[str, tuple[Path, Outcome]]) -> None:
    ordinary, population = (sweeps[name][0] / "outputs" / "students" for name in ("ordinary", "population"))
    for folder in ordinary.iterdir():
        here, there = (load_file(root / folder.name / "model.safetensors") for root in (ordinary, population))
        assert list(here) == list(there)
        for name, weight in here.items():
            torch.testing.assert_close(there[name], weight, rtol=1e-3, atol=1e-3)
        manifests = [json.loads((root / folder.name / "manifest.json").read_text()) for root in (ordinary, population)]
        assert manifests[0]["identity"] == manifests[1]["identity"]
        assert manifests[1]["launcher"] == "population"
        assert manifests[1]["members"] in (4, 2)
        history = (population / folder.name / "history.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in history] == [1, 2]


def test_the_students_are_trained_once_and_found_by_every_job(sweeps: dict[str, tuple[Path, Outcome]]) -> None:
    _, outcome = sweeps["population"]
    assert outcome.err.count("students: 4 trained together") == 1
    assert outcome.err.count("baselines: 2 trained together") == 1
    for job in summary(outcome)["jobs"]:
        stages = json.loads((outcome.run / job["job"] / "result.json").read_text())["stages"]
        assert stages["student"]["cached"]
        assert stages["baseline"]["cached"]


def test_a_second_call_finds_everything(sweeps: dict[str, tuple[Path, Outcome]]) -> None:
    folder, first = sweeps["population"]
    again = inside(*COMMAND, POPULATION, "resume=false", cwd=folder)
    assert (again.status, again.out) == (0, first.out)
    assert "trained together" not in again.err
    for path in first.run.glob("*/result.json"):
        assert {stage["cached"] for stage in json.loads(path.read_text())["stages"].values()} == {True}


def test_a_teacher_of_its_own_for_each_seed_makes_a_population_for_each_teacher(tmp_path: Path) -> None:
    words = ("sweep", "temperature=1,4", "seed=0,1", "teacher.seed=${seed}", *TINY, "baseline=false", POPULATION)
    done = inside(*words, cwd=tmp_path)
    assert done.status == 0, done.err
    assert done.err.count("students: 2 trained together") == 2
    assert len(list((tmp_path / "outputs" / "teachers").iterdir())) == 2


def test_large_students_are_left_to_their_own_jobs(tmp_path: Path) -> None:
    words = ("baseline=false", "student.model.widths=[600,600]", "seed=0,1", POPULATION)
    done = inside("sweep", *TINY, *words, cwd=tmp_path)
    assert done.status == 0, done.err
    assert done.err.count("students of this size gain nothing from being trained together") == 1
    assert "students: 2" not in done.err
    for path in done.run.glob("*/result.json"):
        assert not json.loads(path.read_text())["stages"]["student"]["cached"]


def test_a_failing_job_does_not_stop_the_others(tmp_path: Path) -> None:
    words = ("baseline=false", "temperature=0,2,4", "student.train.optimizer.lr=0.3,1e30", POPULATION)
    done = inside("sweep", *TINY, *words, cwd=tmp_path)
    assert done.status == 1
    assert "Traceback" not in done.err
    results = {path.parent.name: json.loads(path.read_text()) for path in done.run.glob("*/result.json")}
    completed = sorted(name for name, result in results.items() if result["status"] == "completed")
    assert completed == ["temperature-2_student.train.optimizer.lr-0.3", "temperature-4_student.train.optimizer.lr-0.3"]
    assert results["temperature-0_student.train.optimizer.lr-0.3"]["error"].startswith("temperature must be")
    lost = [result["error"] for result in results.values() if "The loss turned" in result.get("error", "")]
    assert len(lost) == 2
    assert all(".train.optimizer.lr" in error for error in lost)
    assert "students: 2 trained together" in done.err


ALONE = "Leave out hydra/launcher=population to train one after the other."
MAY = (
    "These may differ: temperature, soft_weight, hard_weight, seed, teacher.seed, student.train.optimizer.lr, "
    "student.train.optimizer.weight_decay, student.train.optimizer.momentum."
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("student.model.widths=[4],[5]",),
            f"student.model.widths must be the same in all jobs of a population, got [4] and [5]. {MAY} {ALONE}",
        ),
        (
            ("student.train.epochs=1,2", "seed=0,1"),
            f"student.train.epochs must be the same in all jobs of a population, got 1 and 2. {MAY} {ALONE}",
        ),
        (
            ("seed=0,1", "model@student.model=cnn_small"),
            "student." + LAYERS.format("'Conv2d'") + f" {ALONE}",
        ),
        (("seed=0,1", "compile=true"), f"compile must be false in a population, got True. {ALONE}"),
    ],
)
def test_students_that_are_no_population_are_refused_before_the_first_job(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = inside("sweep", *words, POPULATION, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert message in done.err.splitlines()
    assert not (tmp_path / "outputs").exists()


def test_a_command_without_students_has_no_population(tmp_path: Path) -> None:
    done = inside("train-teacher", "--multirun", "teacher.seed=0,1", POPULATION, cwd=tmp_path)
    assert done.status == 1
    assert "hydra/launcher must be basic for kd train-teacher, got 'population'." in done.err.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("augment@transfer.augment=mixup",),
            "transfer.augment must be without mixtures in a population, got 'Mixup'.",
        ),
        (("targets.top_k=3",), "targets.top_k must be null in a population, got 3."),
    ],
)
def test_what_members_cannot_share_is_refused_before_the_first_job(words, message, tmp_path):
    done = inside("sweep", "hydra/launcher=population", *TINY, "seed=0,1", *words, cwd=tmp_path)
    assert done.status == 1
    assert message in done.err
    assert not (tmp_path / "outputs").exists()
