"""Reading models back: from a teacher's, a student's or a run's folder, whoever made it."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from kd_cli import run_folder
from kd_cli.artifacts import Artifact, open_artifact
from kd_cli.errors import ArtifactError, KdError, first_line
from kd_cli.models import pretrained
from kd_cli.stages.compose import check_stored, instantiate
from kd_cli.tensor_header import Header, header_of

LARGEST_CONFIG = 1 << 22  # bytes: ten times one with the 21,841 classes of ImageNet-21k
LARGEST_IMAGE = 1 << 26  # numbers
DEPTH = 50  # of a config


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
    where = artifact.file("config.yaml")
    try:
        config = _read(where)
        classes, shape = tuple(str(name) for name in config["classes"]), tuple(int(n) for n in config["input_shape"])
        node = config["model"]
        channels, height, width = shape
        if min(shape) < 1 or math.prod(shape) > LARGEST_IMAGE:
            raise ValueError(f"its input_shape is {list(shape)}")
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError, yaml.YAMLError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{where} does not describe a stored model ({said[:500]}).") from error
    if not isinstance(node, dict):
        raise ArtifactError(f"{where} does not describe a stored model: its model is {str(node)[:100]!r}.")
    check_stored(node, trusted_modules, where)
    published = node.get("_target_") == f"{pretrained.__name__}.torchvision"

    def build() -> nn.Module:
        model: nn.Module = instantiate(
            OmegaConf.create({**node, "_partial_": False, **({"fetch": False} if published else {})}),
            "model",
            num_classes=len(classes),
            input_shape=(channels, height, width),
        )
        if not isinstance(model, nn.Module):
            raise ArtifactError(f"{where} describes no network.")
        return model

    header = header_of(artifact.file("model.safetensors"))
    try:
        # A RegNet needs real tensors while it is built; its size is torchvision's own.
        if not (published and str(node.get("name")).startswith("regnet_")):
            with _without_memory(len(header)):
                planned = build()
            _check_fit(header, planned, artifact.folder)
        model = build()
    except (ArithmeticError, ValueError, KdError) as error:
        raise _misfit(artifact.folder, error) from error
    load_weights(model, artifact)
    return Loaded(model.eval(), classes, (channels, height, width), config, artifact.folder)


def load_weights(model: nn.Module, artifact: Artifact) -> None:
    """Fills a model with an artifact's weights; ArtifactError unless names, types and shapes agree."""
    path = artifact.file("model.safetensors")
    _check_fit(header_of(path), model, artifact.folder)
    try:
        load_model(model, str(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise _misfit(artifact.folder, error) from error


def _check_fit(header: Header, model: nn.Module, folder: Path) -> None:
    state = model.state_dict(keep_vars=True)
    stored = {id(state[name]) for name in header if name in state}  # of tied tensors one is stored
    for name in sorted({*header, *state}):
        if name not in state:
            raise _misfit(folder, f"{name} is not a tensor of the model")
        theirs, ours = header.get(name), (state[name].dtype, tuple(state[name].shape))
        if theirs is None and id(state[name]) not in stored:
            raise _misfit(folder, f"{name} is missing")
        if theirs not in (None, ours):
            raise _misfit(folder, f"{name} is {theirs} instead of {ours}")


def _misfit(folder: Path, why: Exception | str) -> ArtifactError:
    said = why if isinstance(why, str) else first_line(why)
    return ArtifactError(f"{folder} holds weights that do not fit its config: {said[:500]}")


@contextmanager
def _without_memory(tensors: int) -> Iterator[None]:
    """Networks are built in shape alone, and refused when they have many more parameters than the file has tensors."""
    left = 2 * tensors + 100

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ArtifactError(f"the model has many more than the {tensors} tensors stored")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an initialisation that has nothing to fill
            yield
    finally:
        hook.remove()


class _Plain(yaml.SafeLoader):
    """YAML without aliases, of which a few lines can make gigabytes, and without depth."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias")
        self.depth += 1
        if self.depth > DEPTH:
            raise yaml.YAMLError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _read(path: Path) -> Any:
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError("it is too large")
    return yaml.load(path.read_text(), Loader=_Plain)


def model_folder(path: Path) -> Path:
    """The folder that holds the weights: the path itself, or the student (or teacher) that a run names."""
    if not path.is_dir():
        raise ArtifactError(f"path must be a run folder or a folder of teachers/ or students/, got {str(path)!r}.")
    content = run_folder.read(path)
    if content is None:
        return path
    try:
        named = next(content[m]["artifact"] for m in ("student", "teacher") if isinstance(content.get(m), dict))
        if named is None:  # an ensemble is no artifact itself
            raise KeyError("artifact")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration) as error:
        raise ArtifactError(
            f"path must be a finished run, got {str(path)!r}, whose result.json names no model."
        ) from error
    # runs/<name>/ lies beside students/, sweeps/<name>/<job>/ one deeper: they are found again if all are moved. A run
    # whose folder was elsewhere says where they are.
    told = [Path(str(content["output_dir"]))] if "output_dir" in content else []
    for parent in (*path.resolve().parents, *told):
        if (folder := Path(parent, str(named))).is_dir():
            return folder
    raise ArtifactError(f"path={path} names {named}, which is not there any more.")
