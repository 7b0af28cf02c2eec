"""Reading models back: from a teacher's, a student's or a run's folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from kd_cli.artifacts import open_artifact
from kd_cli.errors import ArtifactError, KdError
from kd_cli.stages.compose import check_stored, instantiate


@dataclass(frozen=True)
class Loaded:
    """A stored model in eval mode. Its input is float32 in [0, 1], `[N, *input_shape]`; its output are logits in the
    order of `classes`. `config` is the whole config that it was stored with.
    """

    model: nn.Module
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    config: dict[str, Any]
    folder: Path


def load(path: str | Path, trusted_modules: Sequence[str] = ()) -> Loaded:
    """The model in a folder of `teachers/` or `students/`, or the student of a run's folder.

    Nothing in the folder is executed: weights are safetensors, the config is plain YAML, and it may only name models of
    kd, torch.nn and torchvision.models, or of `trusted_modules`. Raises ArtifactError.
    """
    artifact = open_artifact(model_folder(Path(path)))
    where = artifact.folder / "config.yaml"
    try:
        config = yaml.safe_load(where.read_text())
        classes, shape = tuple(str(name) for name in config["classes"]), tuple(int(n) for n in config["input_shape"])
        node = config["model"]
        channels, height, width = shape
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ArtifactError(f"{where} does not describe a stored model ({type(error).__name__}: {error}).") from error
    if not isinstance(node, dict):
        raise ArtifactError(f"{where} does not describe a stored model: its model is {node!r}.")
    check_stored(node, trusted_modules, where)
    shape = (channels, height, width)
    try:
        model: nn.Module = instantiate(
            OmegaConf.create({**node, "_partial_": False}), "model", num_classes=len(classes), input_shape=shape
        )
        load_model(model, str(artifact.folder / "model.safetensors"))
    except (SafetensorError, RuntimeError, OSError, KdError) as error:
        raise ArtifactError(f"{artifact.folder} holds weights that do not fit its config: {error}") from error
    return Loaded(model.eval(), classes, shape, config, artifact.folder)


def model_folder(path: Path) -> Path:
    """The folder that holds the weights: the path itself, or the student (or teacher) that a run names."""
    if not path.is_dir():
        raise ArtifactError(f"path must be a run folder or a folder of teachers/ or students/, got {str(path)!r}.")
    result = path / "result.json"
    if not result.is_file():
        return path
    try:
        content = json.loads(result.read_text())
        named = next(content[m]["artifact"] for m in ("student", "teacher") if isinstance(content.get(m), dict))
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise ArtifactError(
            f"path must be a finished run, got {str(path)!r}, whose result.json names no model."
        ) from error
    # runs/<name>/ lies beside students/, sweeps/<name>/<job>/ one deeper: they are found again if all are moved
    for parent in path.resolve().parents:
        if (folder := Path(parent, str(named))).is_dir():
            return folder
    raise ArtifactError(f"path={path} names {named}, which is not there any more.")
