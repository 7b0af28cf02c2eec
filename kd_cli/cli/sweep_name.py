"""What a sweep is called: the same command finds its folder again, and nothing else does. Never imports torch."""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd_cli.commands.asked import EXECUTION
from kd_cli.errors import must

ONE_FOLDER = "A sweep has one table and one store: start a sweep for each."


def sweep_name(config: DictConfig) -> str:
    """Return the name of the sweep with this config: the one that it was given, or a digest of the command, of the
    config as it is composed, whatever folder its parts come from, and of what is varied. Raises ConfigError for what no
    sweep can vary or be called.
    """
    if config.output_dir == "":
        raise must("output_dir", "the name of a folder", "")
    given = config.sweep.get("name")
    if given is not None and not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", str(given)):
        raise must("sweep.name", "a plain name of letters, digits and . _ -", given)
    loader = GlobalHydra.instance().config_loader()
    determines = [str(config.hydra.job.config_name), _text(config)]
    for word in _varied(config, loader):
        key = word.get_key_element()
        if key.lstrip("+~").partition(".")[0] in ("output_dir", "sweep"):
            raise must(key, "the same for all jobs of a sweep", word.get_value_string(), ONE_FOLDER)
        if key.lstrip("+~").partition(".")[0] not in EXECUTION:
            determines += [str(word.input_line), *_choices(config, loader, word)]
    return str(given or "s" + hashlib.sha256(repr(determines).encode()).hexdigest()[:10])


def _varied(config: DictConfig, loader: ConfigLoader) -> list[Override]:
    """What the jobs differ in, in an order of its own: as typed, or else as an experiment says."""
    params = _plain(config.hydra.sweeper).get("params") or {}
    lines = [*(f"{key!s}={value}" for key, value in params.items()), *_plain(config.hydra.overrides.task)]
    words = OverridesParser.create(config_loader=loader).parse_overrides(lines)
    last = {word.key_or_group: word for word in words}
    return sorted((word for word in last.values() if word.is_sweep_override()), key=lambda word: str(word.input_line))


def _choices(config: DictConfig, loader: ConfigLoader, word: Override) -> Iterator[str]:
    """The config with each choice of a group that is varied; nothing for a plain key."""
    if not loader.get_group_options(word.key_or_group):
        return
    fixed = _plain(config.hydra.overrides.hydra)
    typed = [each for each in _plain(config.hydra.overrides.task) if each.startswith("output_dir=")]
    for choice in word.sweep_string_iterator():
        try:
            composed = loader.load_configuration(
                config.hydra.job.config_name, [*fixed, *typed, f"{word.get_key_element()}={choice}"], RunMode.RUN
            )
            output_dir = composed.get("output_dir")
        except (HydraException, OmegaConfBaseException):  # its job says what is wrong with it
            continue
        if output_dir != config.get("output_dir"):
            raise must("output_dir", "the same for all jobs of a sweep", output_dir, ONE_FOLDER)
        yield _text(composed)


def _text(config: DictConfig) -> str:
    """What determines results, unresolved: what is varied may not have its value yet."""
    values = _plain(config)
    return json.dumps(_sorted({key: value for key, value in values.items() if key not in EXECUTION}), default=repr)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False)


def _sorted(value: Any) -> Any:
    """Whatever the order in which keys were typed."""
    if isinstance(value, dict):
        return [(key, _sorted(value[key])) for key in sorted(value, key=str)]
    return [_sorted(each) for each in value] if isinstance(value, list) else value
