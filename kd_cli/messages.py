"""Hydra's own refusals in the house form: which key, which rule, which value, and what to do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd_cli.errors import did_you_mean, must
from kd_cli.schema import QUOTE

NUMBERS = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}


def translate(error: BaseException, command: str, overrides: list[str], configs: Path) -> str:
    """One message for an error that Hydra or OmegaConf raised while it composed the config of `command`."""
    text = "\n".join(_chain(error))
    if found := re.search(r"Could not find '([\w@./-]+)/([^'/]*)'", text) or re.search(
        r"Could not load '([\w@./-]+)/([^'/]*)'", text
    ):
        group, choice = found.groups()
        choices = sorted(path.stem for path in (configs / group).glob("*.yaml"))
        extra = re.search(r"Available options in '[^']*':\n((?:\t[^\n]+\n?)+)", text)
        choices = sorted({*choices, *(extra.group(1).split() if extra else [])})
        return str(must(group, f"one of {', '.join(choices)}", choice, did_you_mean(choice, choices)))
    if found := re.search(r"You must specify '([^']+)'", text):
        group = found.group(1).partition("@")[0]
        choices = sorted(path.stem for path in (configs / group).glob("*.yaml"))
        return f"{found.group(1)} must be given, one of {', '.join(choices)}: {found.group(1)}={choices[0]}."
    if found := re.search(r"Value '(.*)' (?:of type '\w+' )?(?:could not be converted to|is not a valid) (\w+)", text):
        key = _full_key(text) or _key_of(text)
        return str(must(key, NUMBERS.get(found.group(2), found.group(2)), found.group(1), QUOTE if "seed" in key else ""))
    if found := re.search(r"Could not (?:override|delete from config\.?) '?([^'\s]+)'?", text):
        key = found.group(1).rstrip(".")
        known = sorted(_known_keys(command, [word for word in overrides if not word.lstrip("+~").startswith(f"{key}=")]))
        close = did_you_mean(key, known)
        siblings = [name for name in known if name.startswith(key.rpartition(".")[0])] if "." in key else []
        hint = close or (f"Keys there: {', '.join(siblings)}." if siblings else f"See kd {command.replace('_', '-')} --help.")
        return f"{key} must be a key of kd {command.replace('_', '-')}, got one that it does not have. {hint}"
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found.group(1)} must be given: {found.group(1)}=…"
    return text


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__


def _full_key(text: str) -> str | None:
    found = re.search(r"full_key: (\S+)", text)
    return found.group(1) if found else None


def _key_of(text: str) -> str:
    found = re.search(r"override ([^=\s]+)=", text)
    return found.group(1) if found else "a value"


def _known_keys(command: str, overrides: list[str]) -> set[str]:
    """Every dotted key of the command's config, composed without the word that was refused."""
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if not GlobalHydra.instance().is_initialized():
        return set()
    try:
        return set(_dotted(compose(command, overrides=overrides), ""))
    except (HydraException, OmegaConfBaseException):
        return set()


def _dotted(node: Any, prefix: str) -> Iterator[str]:
    from omegaconf import DictConfig

    if isinstance(node, DictConfig):
        for key in node:
            yield f"{prefix}{key}"
            yield from _dotted(node._get_node(key), f"{prefix}{key}.")
