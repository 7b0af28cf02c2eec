"""From config to objects: the one place that instantiates."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_object
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kd_cli.build.identity import plain
from kd_cli.build.logits import check_no_probabilities
from kd_cli.build.own_code import found, targets_of, within
from kd_cli.data.augment import Augment, augment_name, kind_of
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Dataset, Split
from kd_cli.data.spec import Spec
from kd_cli.data.views import show
from kd_cli.errors import ConfigError, KdError, Phrase, first_line, must, under


def instantiate(node: Any, key: str, **arguments: Any) -> Any:
    """Return the object that a config node describes. A refusal by its constructor comes through as it is."""
    if isinstance(node, DictConfig | dict) and "_target_" not in node:
        raise must(key, "a mapping with a _target_", Phrase(f"one with {', '.join(map(str, node)) or 'nothing'}"))
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
    """Return the data set that a config node describes."""
    made = instantiate(node, key)
    if not isinstance(made, Dataset):
        hint = "With _partial_ it is not called." if node.get("_partial_") else f"It gives a {type(made).__name__}."
        raise must(key, "a mapping whose _target_ gives a kd_cli.data.samples.Dataset", plain(node)["_target_"], hint)
    return made


def build_network(build: Callable[[], nn.Module], name: str, dataset: Dataset, key: str = ".model") -> nn.Module:
    """Return the network that `build` makes, tried on two blank samples: one that does not fit is refused before any
    work, by its `key`.
    """
    with under(name):
        try:
            network = build()
            if not isinstance(network, nn.Module):
                raise TypeError(f"it is no nn.Module but of type {type(network).__name__}")
            with torch.no_grad():
                blank = network.eval()(dataset.spec.blank(2))
            if not isinstance(blank, torch.Tensor) or not blank.is_floating_point():
                kind = getattr(blank, "dtype", type(blank).__name__)
                raise TypeError(f"its output is no tensor of floating-point numbers but of type {kind}")
            shape = tuple(blank.shape)
        except (KdError, OSError):  # a file or a service that fails is no misfit
            raise
        except Exception as error:  # a network may be anybody's
            rule = f"a network for {dataset.spec} of dataset={dataset.name}"
            raise must(key, rule, Phrase(f"an error: {first_line(error)}")) from error
        if shape != (2, len(dataset.classes)):
            rule = f"a network with logits for the {len(dataset.classes)} classes of dataset={dataset.name}"
            raise must(key, rule, Phrase(f"an output of shape {list(shape)} for 2 {dataset.spec.noun}"))
        check_no_probabilities(blank, key)
    return network


def build_stored(node: dict[str, Any], classes: int, spec: Spec) -> Any:
    """Return what a stored config describes, for so many classes and for inputs of `spec`; ConfigError where it cannot
    be.
    """
    constructor = instantiate(OmegaConf.create({**node, "_partial_": True}), "model")
    try:
        return constructor(num_classes=classes, **spec.arguments(constructor))
    except (KdError, MemoryError):
        raise
    except Exception as error:  # a network may be anybody's
        raise ConfigError(f"model cannot be built: {first_line(error)} (at model)") from error


def resolved_config(node: Any) -> Any:
    """Return the plain config of a network. One of kd's that reads files has their content in place of their names, if
    its module has a function `resolved` for that: what determines it, and what builds it again where they are gone.
    """
    config = plain(node)
    target = config.get("_target_") if isinstance(config, dict) else None
    if not isinstance(target, str) or not within(target, ["kd_cli.models"]):
        return config
    resolve = getattr(import_module(target.rpartition(".")[0]), "resolved", None)
    return config if resolve is None else resolve(config)


def check_augment(augment: Any, spec: Spec, key: str) -> None:
    """Raise ConfigError for an augmentation of other samples than those of `spec`, by the name that was typed."""
    if augment is None or kind_of(augment) == spec.kind:
        return
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    typed = next((name for group, name in choices.items() if group.partition("@")[2] == key), None)
    shown = typed or augment_name(augment)
    wanted, given = ("images" if kind == "image" else f"{kind} inputs" for kind in (spec.kind, kind_of(augment)))
    raise must(key, f"one for {wanted}", Phrase(f"{shown}, which is for {given}"))


def try_augment(augment: Augment | Mix | None, split: Split, place: str) -> None:
    """Show two samples of a split augmented; ConfigError, in the name of `<place>.augment`, for what would fail only
    amid the work.
    """
    if augment is None:
        return
    two, cpu = [torch.arange(min(2, len(split)))], torch.device("cpu")
    list(show(split, two, cpu, None, 0, 0))  # what fails here is not the augmentation's fault
    with under(place):
        try:
            list(show(split, two, cpu, augment, 0, 0))
        except (KdError, OSError):  # a file that fails is no misfit
            raise
        except Exception as error:  # an augmentation may be anybody's
            said = f"an error from {augment_name(augment)}: {first_line(error)}"
            raise must(".augment", f"one for {split.samples.spec}", Phrase(said)) from error


def _where(error: InstantiationException, key: str) -> str:
    last = str(error).strip().splitlines()[-1]
    path = last.removeprefix("full_key: ")
    return f"at {path if path.startswith(key) else f'{key}.{path}'}" if path != last else f"at {key}"


def stands_for(target: Any, thing: object) -> bool:
    """Return whether a dotted name, which has been checked, leads to this very function or class."""
    if not isinstance(target, str):
        return False
    try:
        return get_object(target) is thing
    except Exception:  # building it will say so
        return False
