"""Hydra's own refusals in the house form: which key, which rule, which value, and what to do."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kd_cli.errors import did_you_mean, must
from kd_cli.schema import GROUPS, QUOTE
from kd_cli.screen import override

KINDS = {"Float": "a number", "Integer": "a whole number", "bool": "true or false"}


def translate(error: BaseException, command: str, overrides: list[str], configs: Path) -> str:
    """One message for an error that Hydra or OmegaConf raised while it composed the config of `command`."""
    text = "\n".join(_chain(error))
    if found := re.search(r"Could not (?:find|load) '([\w@./-]+)/([^'/]*)'", text):
        return _unknown_choice(found.group(1), found.group(2), text, configs)
    if found := re.search(r"You must specify '([^']+)'", text):
        group = found.group(1)
        return f"{group} must be given, one of {', '.join(_choices(group.partition('@')[0], configs))}: {group}=…"
    if found := re.search(r"Value '(.*?)' (?:of type '\w+' )?(?:could not be converted to|is not a valid) (\w+)", text):
        value, kind = found.groups()
        named = re.search(r"full_key: (\S+)", text) or re.search(r"override ([^=\s]+)=", text)
        key = named.group(1) if named else "a value"
        return str(must(key, KINDS.get(kind, kind), value, QUOTE if "seed" in key else ""))
    if found := re.search(r"Could not (?:override|delete from config\.?) '?([^'\s]+)'?", text):
        return _unknown_key(found.group(1).rstrip(".").removeprefix("teacher@"), command, overrides, configs)
    if found := re.search(r"(?:Error parsing override '|LexerNoViableAltException: )(.*?)'?\n", text):
        hint = "Quote values that hold special characters: 'key=\"a value\"'."
        return str(must("An argument", "key=value", found.group(1), hint))
    if found := re.search(r"no viable alternative at input '(.*)'", text):
        return f"An argument must be key=value with its brackets closed, got …{found.group(1)}. Quote it for the shell."
    if found := re.search(r"Key '[^']*' is not in struct\s+full_key: (\S+)", text):
        return f"{found.group(1)} must be given."
    if found := re.search(r"Config group override deletion value must be .*input_line='(.*)', config_loader", text):
        return str(must("A config group that ~ removes", "named by a word", found.group(1), "Leave its value out."))
    if "Config group override must be" in text:
        empty = ", ".join(word for word in overrides if word.endswith(("=null", "=[]", "=")))
        return f"A config group must be given a choice, got {empty or 'none'}."
    if found := re.search(r"Cannot merge DictConfig with ListConfig\s+full_key: (\S+)", text):
        key, hint = found.group(1), ""
        if key == "teacher.members":
            hint = "A list of teachers is written 'teacher.members=[mlp_1200,cnn,outputs/teachers/<id>]'."
        got = next((word.partition("=")[2] for word in overrides if word.startswith(f"{key}=")), "a list")
        return str(must(key, "a mapping", got, hint))
    if "is not a ListConfig" in text and (found := re.search(r"override ([^=\s]+)=(.*)", text)):
        key, value = found.groups()
        return str(must(key, "a list", value, f"Write {shlex.quote(f'{key}=[{value}]')}."))
    if "sweep override" in text or "Ambiguous value for argument" in text:
        return f"Several values for a key make a sweep. Write kd sweep {shlex.join(overrides)}."
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found.group(1)} must be given: {found.group(1)}=…"
    return "\n".join(line for line in text.splitlines() if line and "hydra.cc" not in line)


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__


def _choices(group: str, configs: Path) -> list[str]:
    return sorted(path.stem for path in (configs / group).glob("*.yaml"))


def _unknown_choice(group: str, choice: str, text: str, configs: Path) -> str:
    listed = re.search(r"Available options in '[^']*':\n((?:\t[^\n]+\n?)+)", text)
    choices = sorted({*_choices(group, configs), *(listed.group(1).split() if listed else [])})
    return str(must(group, f"one of {', '.join(choices)}", choice, did_you_mean(choice, choices)))


def _unknown_key(key: str, command: str, overrides: list[str], configs: Path) -> str:
    typed = next((word for word in overrides if word.lstrip("+~").startswith(f"{key}=")), f"{key}=")
    parent, _, leaf = key.rpartition(".")
    said = f"{key} must be a key of kd {command.replace('_', '-')}, got {typed!r}."
    if key in ("teacher.member", "teacher.members"):
        return f"{said} Choose it with teacher=ensemble."
    if leaf in GROUPS and parent:
        return (
            f"{said} To choose a file of configs/{leaf}/, write {override(f'{leaf}@{key}', typed.partition('=')[2])}."
        )
    known = _known_keys(command, [word for word in overrides if word != typed], configs)
    siblings = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent]
    hint = did_you_mean(leaf, siblings) or did_you_mean(key, known)
    return f"{said} {hint or 'Keys there: ' + ', '.join(siblings) + '.'}"


def _known_keys(command: str, overrides: list[str], configs: Path) -> list[str]:
    """Every dotted key of the command's config, composed without the word that was refused."""
    try:
        with initialize_config_dir(str(configs.absolute()), version_base="1.3"):
            return list(_dotted(compose(command, overrides=overrides), ""))
    except (HydraException, OmegaConfBaseException):
        return []


def _dotted(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, DictConfig):
        for key in map(str, node):
            yield f"{prefix}{key}"
            yield from _dotted(node._get_node(key), f"{prefix}{key}.")
