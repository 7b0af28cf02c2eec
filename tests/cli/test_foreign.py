"""Files, services and devices that fail in somebody else's code: told as what failed and where, the disk not blamed."""

import json
from pathlib import Path

import pytest
from running import TINY, Outcome, inside

from kd_cli.errors import KdError

MODULE = """
import torch
from torch import nn
from kd_cli.datasets.digits import digits as load
from kd_cli.objectives.hinton import Hinton
from kd_cli.teachers.source import Single

def fail():
    raise {error}

class Model(nn.Module):
    def __init__(self, num_classes, input_shape, at="forward"):
        super().__init__()
        self.at, self.calls, self.last = at, 0, nn.Linear(64, num_classes)
        if at == "init":
            fail()

    def forward(self, images):
        self.calls += 1
        if self.at == "forward" and self.calls > 3:
            fail()
        return self.last(images.flatten(1))

class Teacher(Single):
    def __init__(self, path="x", online=False, at="forward"):
        super().__init__(online=online)
        object.__setattr__(self, "at", at)

    def network(self, dataset, load):
        if self.at == "network":
            fail()
        return Model(10, (1, 8, 8), self.at)

def digits(at="here", validation=0, seed=0):
    if at == "here":
        fail()
    return load()

class Objective(Hinton):
    def __call__(self, answer, batch):
        fail()

def augment(images, index, seed, view):
    fail()
"""
ERRORS = {
    "TimeoutError('timed out')": "TimeoutError: timed out",
    "ConnectionError('refused')": "ConnectionError: refused",
    "PermissionError(13, 'Permission denied', '/data/x')": "PermissionError: [Errno 13] Permission denied: '/data/x'",
    "FileNotFoundError(2, 'No such file or directory', 'a.onnx')": (
        "FileNotFoundError: [Errno 2] No such file or directory: 'a.onnx'"
    ),
    "OSError(28, 'No space left on device', '/dev/shm/x')": "OSError: [Errno 28] No space left on device: '/dev/shm/x'",
}
OBJECTIVE = """_target_: {module}.Objective
temperature: ${{temperature}}
soft_weight: ${{soft_weight}}
hard_weight: ${{hard_weight}}
"""
# What is chosen, what stands in its file, and what the message begins with.
PLACES = {
    "a teacher, built": ("teacher=own", "_target_: {module}.Teacher\npath: x\nat: network", "teacher failed"),
    "a teacher, at work": ("teacher=own", "_target_: {module}.Teacher\npath: x\nonline: false", "teacher failed"),
    "a model, built": ("model@student.model=own", "_target_: {module}.Model\n_partial_: true\nat: init", "student"),
    "a model, at work": (
        "model@student.model=own", "_target_: {module}.Model\n_partial_: true", "student.model failed",
    ),
    "a data set": ("dataset=own", "_target_: {module}.digits", "dataset cannot be built"),
    "an objective": ("objective=own", OBJECTIVE, "objective failed"),
    "an augmentation": (
        "augment@transfer.augment=own", "_target_: {module}.augment\n_partial_: true", "transfer.augment failed",
    ),
}  # fmt: skip


def run(folder: Path, place: str, error: str, *words: str, command: str = "distill") -> tuple[Outcome, str]:
    """A run with a plug-in that raises this error."""
    module = f"fails_{abs(hash((place, error, command)))}"
    (folder / f"{module}.py").write_text(MODULE.format(error=error))
    choice, text, begins = PLACES[place]
    group = choice.partition("=")[0].partition("@")[0]
    (folder / "mine" / group).mkdir(parents=True)
    (folder / "mine" / group / "own.yaml").write_text(text.format(module=module))
    done = inside(command, "--config-dir", "mine", choice, *TINY[1:], "baseline=false", *words, cwd=folder)
    return done, begins


EACH = [(place, error) for place in PLACES for error in list(ERRORS)[1:3]]


@pytest.mark.parametrize(("place", "error"), [*EACH, *(("an objective", error) for error in list(ERRORS)[3:])])
def test_what_fails_in_a_plug_in_is_told_and_nothing_else_blamed(place: str, error: str, tmp_path: Path) -> None:
    done, begins = run(tmp_path, place, error)
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith(begins), last
    assert ERRORS[error].partition(": ")[2] in last
    assert "output_dir" not in done.err
    if " failed" in begins:
        assert ERRORS[error] in last
        assert ".py, line " in last
        assert ", in fail)" in last
    results = list((tmp_path / "outputs").glob("runs/*/result.json"))
    for path in results:
        assert json.loads(path.read_text())["error"] == last


def test_a_job_of_a_sweep_says_the_same(tmp_path: Path) -> None:
    done, _ = run(tmp_path, "an objective", "TimeoutError('timed out')", "seed=0,1", command="sweep")
    assert done.status == 1
    assert "Traceback" not in done.err
    said = [line for line in done.err.splitlines() if line.startswith("Job seed-")]
    assert [": objective failed: TimeoutError: timed out (" in line for line in said] == [True, True]


def test_an_error_that_a_worker_hands_on_as_text_is_told_by_its_last_line() -> None:
    from kd_cli.cli.foreign import told

    text = "Caught FileNotFoundError in DataLoader worker process 0.\nOriginal Traceback:\n  x"
    try:
        raise FileNotFoundError(f"{text}\nFileNotFoundError: 'a.png'\n")
    except OSError as error:
        said = told(error, {})
    assert isinstance(said, KdError)
    assert str(said).startswith("The run failed: FileNotFoundError: 'a.png' (test_foreign.py, line ")


@pytest.mark.parametrize("what", ["teachers", ".locks", "runs"])
def test_what_the_disk_refuses_is_told_with_the_path_and_the_reason(what: str, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / what).write_text("a file, where a folder is to be")
    done = inside("train-teacher", *TINY[:1], cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert f"outputs/{what}" in last
    if what == "runs":  # Hydra's
        assert last.startswith("output_dir must be a folder that can be written, got '")
        assert last.endswith(("Not a directory.", "File exists."))
    else:
        assert last.endswith(" must be a folder of kd, and is a file. rebuild=true moves it aside.")
