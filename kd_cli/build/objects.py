"""From config to objects, and from config to identity: the one place that instantiates."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kd_cli.errors import ArtifactError, ConfigError, KdError, first_line, must
from kd_cli.logits import check_no_probabilities
from kd_cli.stages.own_code import OURS, digest_of_source, found, targets_of, within
from kd_cli.types import Dataset

# What a config out of an artifact may name.
MODELS = ("kd_cli.models", "torch.nn", "torchvision.models")
DATASETS = ("kd_cli.datasets",)
DOWNLOADS = ("weights", "weights_backbone", "pretrained", "pretrained_backbone")


def instantiate(node: Any, key: str, **arguments: Any) -> Any:
    """The object that a config node describes. A refusal by its constructor comes through as it is."""
    if isinstance(node, DictConfig) and "_target_" not in node:
        raise ConfigError(
            f"{key} must be a mapping with a _target_, got one with {', '.join(map(str, node)) or 'nothing'}."
        )
    try:
        return hydra_instantiate(node, **arguments, _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KdError):
                raise cause from None
            if isinstance(cause, KeyboardInterrupt | MemoryError):
                raise cause from None
            innermost, cause = cause, cause.__cause__
        said = f"{key} cannot be built: {first_line(innermost)} ({_where(error, key)})"
        missing = [target for target in map(str, targets_of(plain(node))) if not found(target)]
        if missing:
            said += (
                f". {missing[0]!r} is not installed; kd takes it from the current folder for a command that trains, or "
                f"with 'trusted_modules=[{missing[0].rpartition('.')[0]}]'."
            )
        raise ConfigError(said) from error


def build_dataset(node: Any, key: str = "dataset") -> Dataset:
    """The data set that a config node describes."""
    made = instantiate(node, key)
    if not isinstance(made, Dataset):
        hint = "With _partial_ it is not called." if node.get("_partial_") else f"It gives a {type(made).__name__}."
        raise must(key, "a mapping whose _target_ gives a kd_cli.types.Dataset", plain(node)["_target_"], hint)
    return made


def build_network(build: Callable[[], nn.Module], name: str, dataset: Dataset, key: str = "model") -> nn.Module:
    """The network that `build` makes, tried on two blank images: one that does not fit is refused before any work, by
    its `key`.
    """
    with owner(name):
        try:
            network = build()
            if not isinstance(network, nn.Module):
                raise TypeError(f"it is no nn.Module but of type {type(network).__name__}")
            with torch.no_grad():
                blank = network.eval()(torch.zeros(2, *dataset.input_shape))
            if not isinstance(blank, torch.Tensor) or not blank.is_floating_point():
                kind = getattr(blank, "dtype", type(blank).__name__)
                raise TypeError(f"its output is no tensor of floating-point numbers but of type {kind}")
            shape = tuple(blank.shape)
        except (KdError, OSError):  # a file or a service that fails is no misfit
            raise
        except Exception as error:  # a network may be anybody's
            raise ConfigError(
                f"{key} must be a network for images {list(dataset.input_shape)} of dataset={dataset.name}, "
                f"got an error: {first_line(error)}."
            ) from error
        if shape != (2, len(dataset.classes)):
            raise ConfigError(
                f"{key} must be a network with logits for the {len(dataset.classes)} classes of "
                f"dataset={dataset.name}, got an output of shape {list(shape)} for 2 images."
            )
        check_no_probabilities(blank)
    return network


@contextmanager
def owner(name: str) -> Iterator[None]:
    """Completes the key in a refusal: a recipe says `train.epochs`, the person typed `student.train.epochs`."""
    try:
        yield
    except KdError as error:
        if str(error).startswith(("train.", "model", "augment.", "dataset.", "path ")):
            raise type(error)(f"{name}.{error}") from error
        said = str(error).startswith(("teacher.", "teacher must "))
        if name.startswith("teacher.") and said and not str(error).startswith(name):
            raise type(error)(name + str(error).removeprefix("teacher")) from error  # a member's source says teacher
        raise


def plain(node: Any) -> Any:
    """A config node as plain values, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def identity_of(node: Any) -> dict[str, Any]:
    """What a node determines: its resolved values, and the sources of every `_target_` that is somebody else's, with
    the modules of theirs that it imports.
    """
    config = plain(node)
    named = sorted({target for target in targets_of(config) if not within(target, OURS)})
    sources = {target: digest_of_source(target) for target in named}
    return {"config": config, "sources": sources} if sources else {"config": config}


def check_stored(config: Any, trusted: Sequence[str], where: Path, allowed: Sequence[str] = MODELS) -> None:
    """ArtifactError unless a stored config is plain values, and every `_target_` in it a network or a data set of
    `allowed` or anything of `trusted`.

    The object itself must come from there too: a module of the list may hold others' names.
    """
    for node in _mappings(config, where):
        keys = {key for key in node if key.startswith("_")}
        target = node.get("_target_")
        if isinstance(target, str) and within(target, trusted):
            if not found(target) and target.partition(".")[0] not in sys.modules:
                hint = "Start kd in the folder of its file, or name that folder in PYTHONPATH."
                raise ArtifactError(f"{where} names {target!r}, which is neither installed nor here. {hint}")
            _refuse_downloads(node, target, where)
            continue
        nested = allowed == DATASETS and node is not config
        if "_target_" in keys and (nested or not isinstance(target, str) or not _buildable(target, allowed)):
            roots = ", ".join((*allowed, *trusted))
            raise ArtifactError(
                f"{where} names {target!r}, which may not be built from a stored config (allowed: {roots}). "
                f"If you trust it, add its module: 'trusted_modules=[{str(target).rpartition('.')[0]}]'."
            )
        if other := sorted(keys - {"_target_", "_partial_"}):
            raise ArtifactError(f"{where} must hold arguments by name alone, got {', '.join(other)}.")
        if isinstance(target, str):
            _refuse_downloads(node, target, where)


def _refuse_downloads(node: dict[str, Any], target: str, where: Path) -> None:
    """Of a network of torchvision's own, by whatever name it is called. The name has been found harmless: it is looked
    up here.
    """
    if any(node.get(key) for key in DOWNLOADS):
        try:
            theirs = within(str(get_object(target).__module__), ["torchvision"])
        except Exception:  # an import or a lookup that fails as it likes
            theirs = within(target, ["torchvision"])
        if theirs:
            raise ArtifactError(f"{where} names {target!r} with weights to download: a stored model has its own.")


def _mappings(config: Any, where: Path) -> Iterator[dict[str, Any]]:
    """Every mapping in a tree of plain values; ArtifactError for what is none, or would be resolved to another."""
    if isinstance(config, dict):
        if not all(isinstance(key, str) for key in config):
            raise ArtifactError(f"{where} must have words as keys, got {list(config)[:10]}.")
        yield config
        for value in (*config, *config.values()):
            yield from _mappings(value, where)
    elif isinstance(config, list):
        for value in config:
            yield from _mappings(value, where)
    elif (isinstance(config, str) and ("${" in config or config == "???")) or not isinstance(
        config, str | int | float | None
    ):
        raise ArtifactError(f"{where} must hold plain values, got {str(config)[:100]!r}, which is not resolved.")


def _buildable(target: str, allowed: Sequence[str]) -> bool:
    """Whether a name stands for a network or a data set, by its class or by what its function says it returns."""
    if not within(target, allowed):
        return False
    try:
        found = get_object(target)
        made = found if isinstance(found, type) or within(target, ["torch"]) else get_type_hints(found).get("return")
    except Exception:  # an import or a lookup that fails as it likes
        return False
    if not within(str(getattr(found, "__module__", "")), allowed) or found.__name__.startswith("_"):
        return False
    if within(target, ["torchvision"]):
        from torchvision import models

        return found.__name__ in models.list_models(module=models)
    return isinstance(made, type) and issubclass(made, nn.Module | Dataset)


def _where(error: InstantiationException, key: str) -> str:
    last = str(error).strip().splitlines()[-1]
    path = last.removeprefix("full_key: ")
    return f"at {path if path.startswith(key) else f'{key}.{path}'}" if path != last else f"at {key}"
