"""One of several processes that a launcher started is refused."""

from pathlib import Path

import pytest
from running import TINY, files_below, inside, kd


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, "WORLD_SIZE must be 1, got 2."),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE must be 1, got 4."),
        (
            {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"},
            "SLURM_STEP_NUM_TASKS must be 1, got 4.",
        ),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, "SLURM_NTASKS must be 1, got 2."),
    ],
)
def test_one_of_several_processes_is_refused(
    variables: dict[str, str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for words in (
        ["distill"],
        ["train-teacher"],
        ["dump-targets"],
        ["sweep", "seed=0,1"],
        ["distill", "-m", "seed=0,1"],
    ):
        done = inside(*words, cwd=tmp_path)
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith(f"{named} Training on several devices is not there yet")
        assert done.err.count("\n") == 1
    assert files_below(tmp_path) == []
    assert inside("distill", "--cfg", "job", cwd=tmp_path).status == 0
    assert inside("list", cwd=tmp_path).status == 0


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"WORLD_SIZE": ""},
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # a batch script, whose tasks srun would start
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},  # an interactive step, or submitit's
    ],
)
def test_a_process_that_is_alone_is_not_refused(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = inside("train-teacher", "teacher.train.epochs=1", cwd=tmp_path)
    assert done.status == 0, done.err


def test_torchrun_is_refused_by_each_of_its_processes(tmp_path: Path) -> None:
    done = kd("distill", *TINY, cwd=tmp_path, WORLD_SIZE="2", RANK="0", LOCAL_RANK="0", MASTER_ADDR="localhost")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("WORLD_SIZE must be 1, got 2.")
    assert files_below(tmp_path) == []
