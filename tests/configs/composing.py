"""What the shipped YAML files compose to."""

import inspect
from collections.abc import Iterator
from typing import Any

from hydra import compose
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from kd_cli.cli.choices import CONFIGS


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def composed(command: str, *overrides: str) -> DictConfig:
    return compose(command, overrides=list(overrides))


def offline(cfg: DictConfig, key: str) -> None:
    """Without pretrained weights, which would have to be downloaded."""
    if OmegaConf.select(cfg, f"{key}.weights") is not None:
        OmegaConf.update(cfg, f"{key}.weights", None)


def accepted(target: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(get_object(target)).parameters)


def nodes(config: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a _target_ in a config."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield path, config
        for key, value in config.items():
            yield from nodes(value, f"{path}.{key}" if path else str(key))


def check_arguments(config: Any) -> int:
    count = 0
    for path, node in nodes(config):
        given = {key for key in node if not key.startswith("_")}
        parameters = accepted(node["_target_"])
        assert given <= set(parameters), f"{path}: {sorted(given - set(parameters))}"
        if not node.get("_partial_"):
            needed = {
                name
                for name, parameter in parameters.items()
                if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
            }
            assert needed <= given, f"{path}: {sorted(needed - given)}"
        count += 1
    return count
