"""Checkpoints through the command: how often, and what a run that was struck leaves."""

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from running import KD, Outcome, environment, inside

from kd_cli.train.checkpoint import FILE

TRAINED = ("teacher.train.epochs=6", "student.train.epochs=6", "baseline=false")


def test_how_often_is_no_part_of_what_is_made(tmp_path: Path) -> None:
    first = inside("distill", *TRAINED, cwd=tmp_path).result
    again = inside("distill", *TRAINED, "checkpoint.every_epochs=1", "checkpoint.every_minutes=null", cwd=tmp_path)
    assert all(stage["cached"] for stage in again.result["stages"].values())
    assert again.result["student"]["artifact"] == first["student"]["artifact"]


@pytest.mark.parametrize("word", ["every_epochs=0", "every_epochs=-1", "every_minutes=0", "every_minutes=nan"])
def test_an_interval_that_is_none_is_refused(tmp_path: Path, word: str) -> None:
    refused = inside("train-teacher", f"checkpoint.{word}", cwd=tmp_path)
    assert refused.status == 1
    assert f"checkpoint.{word.partition('=')[0]} must be a " in refused.err
    assert not (tmp_path / "outputs").exists()


def test_a_training_that_cannot_succeed_leaves_no_checkpoint(tmp_path: Path) -> None:
    jump = ("scheduler@teacher.train.scheduler=multi_step", "teacher.train.scheduler.milestones=[2]")
    words = ("train-teacher", *jump, "teacher.train.scheduler.gamma=1e30", "checkpoint.every_epochs=1")
    done = inside(*words, cwd=tmp_path)
    assert "in epoch 3 of" in done.err, "two epochs, and a checkpoint after each, come before it"
    assert list((tmp_path / "outputs" / "teachers").iterdir()) == []


def student(folder: Path, done: Outcome) -> dict[str, str]:
    stored = folder / "outputs" / done.result["student"]["artifact"]
    return json.loads((stored / "manifest.json").read_text())["files"]["model.safetensors"]


def struck(folder: Path, kind: str, number: int, *words: str) -> tuple[int, str]:
    """Runs a command that gets this signal at some moment after the first checkpoint of a training below `kind`."""
    process = subprocess.Popen(
        [str(KD), *words], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    until = time.monotonic() + 900
    while not list((folder / "outputs" / kind).glob(f".*/{FILE}")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.002)
    time.sleep(random.Random(f"{kind} {number}").uniform(0, 0.1))
    os.kill(process.pid, number)
    told = process.communicate(timeout=900)[1]
    return process.returncode, told


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return student(folder, inside("distill", *LONGER, cwd=folder))


LONGER = ("teacher.train.epochs=20", "student.train.epochs=60", "baseline=false", "device=cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    "blows",
    [
        {"teachers": (signal.SIGKILL, -9), "students": (signal.SIGKILL, -9)},
        {"teachers": (signal.SIGTERM, 143), "students": (signal.SIGUSR1, 138)},
    ],
    ids=["SIGKILL", "SIGTERM, SIGUSR1"],
)
def test_struck_in_the_teachers_and_in_the_students_stage(tmp_path, undisturbed, blows) -> None:
    words = ("distill", *LONGER, "checkpoint.every_epochs=1")
    for kind, (number, status) in blows.items():
        code, told = struck(tmp_path, kind, number, *words)
        assert code == status
        assert "Traceback" not in told
        (unfinished,) = (tmp_path / "outputs" / kind).iterdir()
        assert unfinished.name.endswith(".partial")
        results = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "runs").glob("*/result.json")]
        assert {result["status"] for result in results} == {"interrupted"}
        if number != signal.SIGKILL:
            assert "the same command goes on from there" in told.splitlines()[-1]
            assert re.search(rf"{kind[:-1]}: interrupted, kept (after|in) epoch \d+ of", told)
    done = inside(*words, cwd=tmp_path)
    assert re.search(r"student: going on (after|in) epoch \d+ of 60", done.err)
    assert student(tmp_path, done) == undisturbed
    assert not list((tmp_path / "outputs").glob("*/*/checkpoint*"))
    assert not list((tmp_path / "outputs").glob("*/.*.partial"))
