"""What every key means, read where it stands: the schema's fields, and the YAML files with their comments.

A comment behind a key of a YAML is its meaning, also for the other files of the group that have the key without one;
the comment lines on top of a file say what is chosen with it. Imports neither hydra nor torch.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from kd_cli.cli.choices import CONFIGS, choices, suited
from kd_cli.cli.keys import schema_of

LINE = re.compile(r"^( *)([\w.]+):(?: +([^#].*?))??(?: +# +(.*))?$")
ENTRY = re.compile(r"^  - (optional |override )?/?([\w/]+)(?:@([\w.]+))?: *([^#\s]+)(?: +# +(.*))?$")
INTERNAL = ("_target_", "_partial_", "hydra", "defaults")


@dataclass(frozen=True)
class Key:
    """One key as a person types it, its value where nothing is typed, and the group that it chooses from, if any."""

    name: str
    default: str
    meaning: str = ""
    group: str = ""


@dataclass
class ConfigFile:
    """One YAML: the comment on top, what its defaults list chooses by place, and its own keys."""

    about: str = ""
    chosen: list[Key] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    overridden: dict[str, str] = field(default_factory=dict)  # `override /student: mlp_30`, by key


def commands() -> dict[str, str]:
    """Return every command with its help, the first line of its YAML."""
    found = {}
    for path in sorted(CONFIGS.glob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            found[path.stem.replace("_", "-")] = file.readline().removeprefix("#").strip()
    return found


def manual(command: str, typed: Mapping[str, str], own: Sequence[Path] = ()) -> list[Key]:
    """Return the keys of a command in the order of its config, each chosen file's keys behind the key that chooses it.

    `typed`: other choices than the defaults, by key. `own`: a person's folders of configs.
    """
    found = {each.name: each for each in _fields(schema_of(command), "")}
    typed = {**_overridden(typed.get("experiment", ""), own), **typed}
    base = _read(CONFIGS / f"{'distill' if command == 'sweep' else command}.yaml")
    for each in base.keys:
        _put(found, each)
    for each in base.chosen:
        _expand(found, each, typed, own)
    return [each for each in found.values() if not _only_holds(each, found, own)]


def choice(group: str, name: str, own: Sequence[Path] = ()) -> list[Key]:
    """Return the keys that one choice of a group brings along."""
    found: dict[str, Key] = {}
    _expand(found, Key("", name, group=group), {}, own)
    return [replace(each, name=each.name.lstrip(".")) for each in found.values() if each.name]


def about(group: str, name: str, own: Sequence[Path] = ()) -> str:
    """Return what the comment on top of a choice's file says, lines joined."""
    return _file(group, name, own).about


def _overridden(experiment: str, own: Sequence[Path]) -> dict[str, str]:
    """Return what an experiment chooses in other groups, by key."""
    if experiment not in choices("experiment", own):
        return {}
    file = _file("experiment", experiment, own)
    base = [each.default for each in file.chosen if each.name == each.group == "experiment"]
    return {**_overridden("".join(base[:1]), own), **file.overridden}


def _expand(found: dict[str, Key], key: Key, typed: Mapping[str, str], own: Sequence[Path]) -> None:
    """Add a key that chooses a file, and what is in the file."""
    name = typed.get(key.name, key.default)
    if name == "${dataset}":  # the data set's own
        name = found["dataset"].default
    elif name == f"${{suited:{key.group},${{dataset}}}}":
        name = suited(key.group, found["dataset"].default)
    known = choices(key.group, own)
    _put(found, replace(key, default=name))
    if name not in known:
        return
    here = f"{key.name}." if key.group != "experiment" else ""
    file = _file(key.group, name, own)
    same = _meanings(key.group) if key.group != "experiment" else {}

    def put(keys: Iterable[Key]) -> None:
        for each in keys:
            said = each.meaning if same else ""  # an experiment's comments are about its values
            _put(found, replace(each, name=here + each.name, meaning=said or same.get(each.name, "")))

    base = [each for each in file.chosen if each.name == each.group == key.group]  # `- cnn`: what the file begins from
    for each in base:
        _expand(found, replace(key, default=each.default), {}, own)
        found[key.name] = replace(found[key.name], default=name)
    put(each for each in file.keys if "." not in each.name)
    for each in file.chosen:
        if each not in base and each.name != "_here_":
            inner = Key(here + each.name, each.default, each.meaning or same.get(each.name, ""), each.group)
            _expand(found, inner, typed, own)
    put(each for each in file.keys if "." in each.name)
    for each in file.chosen:
        if each.name == "_here_":  # what a file begins from, too, but the least of its keys
            for usual in choice(each.group, each.default, own):
                found.setdefault(here + usual.name, replace(usual, name=here + usual.name))


def _only_holds(key: Key, found: Mapping[str, Key], own: Sequence[Path]) -> bool:
    """Whether a key holds others and nothing can be chosen for it, or what is optional does not exist."""
    if key.group:
        return key.group == "normalisation" and key.default not in choices(key.group, own)
    return any(name.startswith(f"{key.name}.") for name in found)


def _put(found: dict[str, Key], key: Key) -> None:
    """Add a key, or give a known one the value of this file; what is known of it stays."""
    before = found.get(key.name, key)
    found[key.name] = Key(key.name, key.default, key.meaning or before.meaning, key.group or before.group)


def _fields(schema: type, prefix: str) -> Iterator[Key]:
    """Yield the fields of a schema, and those of the dataclasses in it."""
    for each in fields(schema):
        made: Any = each.default_factory
        default = made() if each.default is MISSING else each.default
        if is_dataclass(default):
            yield from _fields(type(default), f"{prefix}{each.name}.")
        else:
            yield Key(prefix + each.name, as_typed(default), each.metadata[""])


def as_typed(value: Any) -> str:
    """Return a value as YAML, and the command line, have it."""
    text = str(value)
    return {"None": "null", "True": "true", "False": "false", "{}": "null"}.get(text, text)


def _file(group: str, name: str, own: Sequence[Path]) -> ConfigFile:
    places = [folder / group / f"{name}.yaml" for folder in (*own, CONFIGS)]
    return _read(next(path for path in places if path.is_file()))


@cache
def _meanings(group: str) -> dict[str, str]:
    """Return the meanings that any file of a group of kd's gives to a key, the first by name."""
    found: dict[str, str] = {}
    for name in choices(group):
        file = _read(CONFIGS / group / f"{name}.yaml")
        for each in (*file.chosen, *file.keys):
            if each.meaning:
                found.setdefault(each.name, each.meaning)
    return found


@cache
def _read(path: Path) -> ConfigFile:
    """Return a YAML's comments, choices and keys, line by line; what kd's files do not use is not understood."""
    file, above, top = ConfigFile(), [""], True
    for line in path.read_text("utf-8", "replace").splitlines():
        if top and line.startswith("#"):
            file.about += "" if "@package" in line else f"{line.removeprefix('#').strip()} "
            continue
        top = False
        if found := ENTRY.match(line):
            how, group, place, name, meaning = found.groups()
            if how == "override ":
                file.overridden[place or group] = name
            else:
                file.chosen.append(Key(place or group, name, meaning or "", group))
        elif re.fullmatch(r"  - \w+", line) and not line.endswith(("_self_", "_schema")):
            group = path.parent.name
            file.chosen.append(Key(group, line.removeprefix("  - "), "", group))
        elif (found := LINE.match(line)) and not found[2].startswith(INTERNAL):
            indent, name, value, meaning = len(found[1]) // 2, found[2], found[3], found[4]
            above[indent:] = [*above[indent : indent + 1], f"{above[indent]}{name}."]
            if value is not None:
                file.keys.append(Key(above[indent] + name, value, meaning or ""))
        elif found:
            above[1:] = ["hydra."]
    file.keys = [each for each in file.keys if not each.name.startswith("hydra.")]
    file.about = file.about.strip()
    return file
