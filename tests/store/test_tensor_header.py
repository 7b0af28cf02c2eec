"""Files of weights that say `format: pt`, and what of them stands in identities."""

import hashlib
from pathlib import Path

import torch
from running import inside
from safetensors import safe_open
from safetensors.torch import load_file, save_file, save_model

from kd_cli.steps.trained_model import _each_once
from kd_cli.store.artifacts import read_artifact
from kd_cli.store.tensor_digest import IN_TORCH, digest_of_tensors


def test_the_digest_is_that_of_the_file_without_the_word(tmp_path: Path) -> None:
    for count in range(1, 9):  # headers of every length
        state = {"a" * count: torch.rand(count), "b": torch.arange(count)}
        save_file(state, tmp_path / "with", metadata=IN_TORCH)
        save_file(state, tmp_path / "without")
        assert digest_of_tensors(tmp_path / "with") == hashlib.sha256((tmp_path / "without").read_bytes()).hexdigest()
        assert digest_of_tensors(tmp_path / "without") is None


def test_tied_tensors_are_stored_once_by_the_name_that_safetensors_takes(tmp_path: Path) -> None:
    tied = torch.nn.ModuleDict({name: torch.nn.Linear(3, 3) for name in "bac"})
    tied["b"].weight = tied["c"].weight
    save_model(tied, str(tmp_path / "theirs"))
    assert _each_once(tied).keys() == load_file(tmp_path / "theirs").keys()


def test_a_stored_network_says_it_and_can_be_read_by_all(tmp_path: Path) -> None:
    done = inside("train-teacher", "teacher.train.epochs=1", "evaluate.latency=false", cwd=tmp_path).result
    artifact = read_artifact(tmp_path / "outputs" / done["teacher"]["artifact"])
    path = artifact.file("model.safetensors")
    with safe_open(path, "pt") as tensors:
        assert tensors.metadata() == IN_TORCH
    assert path.stat().st_mode == artifact.file("config.yaml").stat().st_mode
    assert artifact.manifest["files"]["model.safetensors"]["tensors"] == digest_of_tensors(path)
