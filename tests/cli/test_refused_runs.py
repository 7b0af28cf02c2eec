"""Runs that are refused, or end early: what is said, and what is left."""

import json
import os
from pathlib import Path

import pytest
import torch
from images import choices
from running import TINY, files_below, inside, kd


@pytest.mark.parametrize("command", ["train-teacher", "dump-targets"])
def test_the_other_run_commands_refuse_alike(command: str, tmp_path: Path) -> None:
    done = inside(command, "teacher.train.epochs=0", cwd=tmp_path)
    expected = "teacher.train.epochs must be a whole number ≥ 1, got 0.\n"
    assert (done.status, done.out, done.err) == (1, "", expected)
    assert files_below(tmp_path) == []


def test_kd_traceback_shows_where_it_happened(tmp_path: Path) -> None:
    done = kd("distill", "temperature=0", cwd=tmp_path, KD_TRACEBACK="1")
    assert done.status == 1
    assert done.err.startswith("Traceback (most recent call last):")
    assert done.err.splitlines()[-1] == "kd_cli.errors.ConfigError: temperature must be a number > 0, got 0.0."
    assert files_below(tmp_path) == []


def test_several_values_for_a_key_point_to_kd_sweep(tmp_path: Path) -> None:
    done = inside("distill", "temperature=1,2", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == "Several values for a key make a sweep. Write kd sweep temperature=1,2.\n"
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "word",
    ["student=null", "teacher.train=abc", "student.train=null", "~student", "~student.model", "trusted_modules=abc"],
)
def test_no_odd_override_ends_in_a_traceback(word: str, tmp_path: Path) -> None:
    done = inside("distill", word, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err
    assert "full_key" not in done.err
    assert done.err.count("\n") == 1, done.err
    assert word.partition("=")[0].lstrip("~") in done.err
    assert files_below(tmp_path) == []


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    there = "auto, mps, cpu" if torch.backends.mps.is_available() else "auto, cpu"
    done = inside("distill", "device=cuda", cwd=tmp_path)
    expected = f"device must be one that this machine has ({there}), got 'cuda'.\n"
    assert (done.status, done.out, done.err) == (1, "", expected)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("below", ["plain", "plain/deeper"])
def test_an_output_folder_below_a_plain_file(below: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("mine")
    done = inside("distill", f"output_dir={below}", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"output_dir must be a folder that can be written, got '{below}/runs/")
    assert done.err.endswith("'. Not a directory.\n")
    assert done.err.count("\n") == 1
    assert files_below(tmp_path) == ["plain"]
    assert (tmp_path / "plain").read_text() == "mine"


def test_an_output_folder_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    done = inside("distill", "output_dir=locked", cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("output_dir must be a folder that can be written, got 'locked/runs")
    assert done.err.endswith("Permission denied.\n")


def test_a_refusal_leaves_what_was_there_before(tmp_path: Path) -> None:
    inside("train-teacher", "teacher.train.epochs=1", cwd=tmp_path)
    before = files_below(tmp_path)
    assert inside("distill", "student.train.epochs=0", cwd=tmp_path).status == 1
    assert inside("distill", "temperature=0", cwd=tmp_path).status == 1
    assert files_below(tmp_path) == before


# Failures after the input was accepted.


def test_a_loss_that_is_lost_says_when_and_what_to_try(tmp_path: Path) -> None:
    done = kd("distill", *TINY, "teacher.train.optimizer.lr=1e9", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.lower().startswith("the loss turned nan in epoch 1 of 6 at learning rate 1.42857e+08.")
    for key in ("teacher.train.optimizer.lr", "teacher.train.clip=1", "teacher.train.precision=32"):
        assert key in last
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "failed"
    assert result["error"] == last
    assert result["command"] == "distill"
    assert (result["dataset"], result["seed"], result["temperature"]) == ("digits", 0, 4.0)
    assert [
        path.name for path in (tmp_path / "outputs").glob("*/*") if path.parent.name not in ("runs", ".locks")
    ] == []


# Sweeps.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("student=mlp_64,foo", f"student must be one of {choices('student')}, got 'foo'."),
        ("temprature=1,2", "temprature must be a key of kd sweep, got 'temprature=1,2'. Did you mean 'temperature'?"),
    ],
)
def test_a_refused_sweep_leaves_nothing_behind(words: str, message: str, tmp_path: Path) -> None:
    done = inside("sweep", *words.split(" "), cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", message + "\n")
    assert files_below(tmp_path) == []
