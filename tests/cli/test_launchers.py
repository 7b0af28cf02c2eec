"""The same sweep by another launcher: the same artifacts."""

import json
from pathlib import Path

import pytest
import torch
from running import TINY, Outcome, kd
from safetensors.torch import load_file

WORDS = ("sweep", "temperature=1,4", "seed=0,1", *TINY, "student.train.batch_size=32")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    assert kd(*WORDS, cwd=folder).status == 0
    return folder / "outputs"


def weights(outputs: Path) -> dict[str, str]:
    """The digest of every stored file of tensors."""
    return {
        f"{path.parent.parent.name}/{path.parent.name}/{name}": entry["sha256"]
        for path in outputs.glob("[st]*/[0-9a-f]*/manifest.json")
        for name, entry in json.loads(path.read_text())["files"].items()
        if name.endswith(".safetensors")
    }


def errors(done: Outcome) -> list[tuple[float, int, int]]:
    found = (json.loads(path.read_text()) for path in done.run.glob("*/result.json"))
    return sorted((job["temperature"], job["seed"], job["student"]["errors"]) for job in found)


@pytest.mark.slow
def test_jobs_side_by_side_make_the_bits_of_jobs_in_turn(alone: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = kd(*WORDS, *JOBLIB, cwd=tmp_path)
    assert done.status == 0, done.err
    assert weights(tmp_path / "outputs") == weights(alone)
    assert done.err.count("test errors over seeds") == 1, "one table for all"
    assert done.err.count("teacher: epoch 6/6") == 1, "whoever comes second waits for the first"
    again = kd(*WORDS, *JOBLIB, cwd=tmp_path)
    assert again.err.count("is complete, and not run again") == 4


@pytest.mark.slow
def test_a_failing_job_does_not_stop_those_beside_it(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = kd("sweep", *TINY, "baseline=false", "temperature=0,2", *JOBLIB, cwd=tmp_path)
    assert done.status == 1
    assert "Traceback" not in done.err
    assert "Job temperature-0 (temperature=0) failed: temperature must be a number > 0, got 0.0." in done.err
    made = {path.parent.name: json.loads(path.read_text())["status"] for path in done.run.glob("*/result.json")}
    assert made == {"temperature-0": "failed", "temperature-2": "completed"}


def test_a_population_makes_the_weights_of_jobs_in_turn_within_rounding(alone: Path, tmp_path: Path) -> None:
    done = kd(*WORDS, "hydra/launcher=population", cwd=tmp_path)
    assert done.status == 0, done.err
    assert weights(tmp_path / "outputs").keys() == weights(alone).keys()
    for path in (tmp_path / "outputs" / "students").glob("*/model.safetensors"):
        theirs = load_file(alone / "students" / path.parent.name / path.name)
        for name, value in load_file(path).items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4)
