"""What people type, as Hydra has it. Imports no torch, and hydra only where a word must be parsed: not in help."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kd_cli.cli.choices import choices
from kd_cli.screen import quoted

TAKES_VALUE = {"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c",
               "--experimental-rerun"}  # fmt: skip
FLAGS = TAKES_VALUE | {"--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
                       "--info", "-i", "--shell-completion", "-sc"}  # fmt: skip
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
GROUPS = {"train": "recipe", "inner": "augment", "member": "teacher", "generalist": "teacher"}  # others: as the key
FILES = (  # last parts of the keys of files and folders
    "output_dir", "path", "root", "images", "sounds", "texts", "start_from", "sweep", "name",
)  # fmt: skip
MAYBE = ("weights", "labels", "classes")  # last parts of those whose value may be a file, or a number, a list, a word
PATTERN = re.compile(r"\+*(transfer\.)?dataset\.(group|pattern)")  # keys of regular expressions, nothing but text
NOT_TEXT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)(e[-+]?\d+)?|true|false|null|[-+]?(inf|nan)", re.IGNORECASE)


def is_override(word: str) -> bool:
    """Return whether Hydra takes a word as one: `key=value` or `~key`."""
    return not word.startswith(("-", "~/")) and ("=" in word or word.startswith("~")) and word != "="


def sorted_out(words: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Overrides, Hydra's flags with their values, and what is neither."""
    overrides: list[str] = []
    flags: list[str] = []
    strays: list[str] = []
    taker = ""
    for word in words:
        if taker in TAKES_VALUE or (taker in ("--info", "-i") and word in INFO):
            flags.append(word)
            taker = ""
            continue
        taker = ""
        if is_override(word):
            overrides.append(word)
        elif word.partition("=")[0] in FLAGS:
            flags.append(word)
            taker = word
        elif word != "--":
            strays.append(word)
    return overrides, flags, strays


def value_of(flags: Sequence[str], *names: str) -> str | None:
    """Return what was given to a flag: `--config-dir x` or `--config-dir=x`; "" where nothing follows it."""
    for k, word in enumerate(flags):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(flags[k + 1 :]), "")
    return None


def config_dirs(flags: Sequence[str]) -> list[Path]:
    """Return a person's own folder of configs."""
    folder = value_of(flags, "--config-dir", "-cd")
    return [Path(folder).absolute()] if folder else []


def placed(command: str, overrides: Sequence[str]) -> list[str]:
    """Keys of the stored data set, which kd evaluate adds to what it finds, where no other is chosen."""
    if command != "evaluate" or any(word.startswith("dataset=") for word in overrides):
        return list(overrides)
    return [f"+{word}" if word.startswith("dataset.") else word for word in overrides]


def group_of(key: str) -> str:
    """Return the group of configs that fills a nested key, or the name of none. Keys at the top are groups for Hydra
    too.
    """
    above, _, leaf = key.removeprefix("+").rpartition(".")
    if "@" in key:  # which names its group
        return ""
    if above.endswith(".members"):  # each has a name of its own, which may be a new one
        return "teacher"
    return GROUPS.get(leaf, leaf) if above and re.fullmatch(r"(?!hydra\.)[\w.]+", key) else ""


def parsed(word: str) -> Any:
    """Return an override as Hydra's own parser reads it, None for what it cannot read: Hydra says so itself."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        return OverridesParser.create().parse_override(word)
    except Exception:  # whatever the grammar's machinery raises
        return None


def chosen(word: str, own: Iterable[Path] = ()) -> str:
    """Return the group that an override chooses from by a bare word at a nested key: `model` of `student.model=cnn`, or
    of a sweep over such words; "" for anything else. Quoted, a word is text.
    """
    key, _, value = word.partition("=")
    there = choices(group, own) if (group := group_of(key)) and value else []
    if not there:
        return ""
    from hydra.core.override_parser.types import Glob, Sweep

    if (override := parsed(word)) is None:
        return ""
    value = override._value
    if isinstance(value, Glob):
        return group
    words = (getattr(value, "list", None) or []) if isinstance(value, Sweep) else [value]
    return group if any(isinstance(each, str) and each in there for each in words) else ""


def spelt(word: str, own: Iterable[Path] = (), free: bool = False) -> list[str]:
    """Return an override as Hydra has it: a bare word that names a file of configs/, or of a person's `own` folders,
    chooses it, unless its key is `free` to mean anything. In a list of teachers, a word with a `/` is a folder. The
    name of a file stays as it was typed.
    """
    key, _, value = word.partition("=")
    if value == "~" or value.startswith("~/"):  # a shell leaves it in the middle of a word
        value = str(Path(value).expanduser())
        word = f"{key}={value}"
    if key == "images" and (several := _several(value)):
        return [f"{key}=[{','.join(map(quoted, several))}]"]
    leaf, there = key.rpartition(".")[2], _is_odd(value) and _is_there(value)
    if (leaf in FILES and (_means_text(value, key) or there)) or (
        leaf in MAYBE and there and not NOT_TEXT.fullmatch(value)
    ):
        return [f"{key}={quoted(value)}"]
    if PATTERN.fullmatch(key) and value and value != "null" and value[0] not in "'\"":
        return [f"{key}={quoted(value)}"]
    if not value.isascii() and not set(value) & set("'\"[]{}()$\\"):  # Hydra wants letters that are not ASCII quoted
        word = f"{key}={','.join(part if part.isascii() else quoted(part) for part in value.split(','))}"
    if free:
        return [word]
    if group := chosen(word, own):
        return [f"+{group}@{word[1:]}" if word.startswith("+") else f"{group}@{word}"]
    if value == "null" and "@" in key:  # Hydra takes no null for a group
        return [f"{key.rpartition('@')[2]}=null"]
    found = re.fullmatch(r"teacher\.members=\[(.+)\]", word)
    names = [name.strip().strip("'\"") for name in found.group(1).split(",")] if found else []
    if not names or not all(re.fullmatch(r"[^][{}'\"]+", name) for name in names):
        return [word]
    new = []
    for k, name in enumerate(str(Path(name).expanduser()) if name.startswith("~/") else name for name in names):
        place = f"teacher.members.{k}"
        new += [f"+teacher@{place}=artifact", f"{place}.path='{name}'"] if "/" in name else [f"+teacher@{place}={name}"]
    return new


def gathered(command: str, words: Sequence[str]) -> list[str]:
    """Return the words of a command line; those of kd predict that a shell made of a pattern as one list of images."""
    images = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if not word.startswith("-") and before not in TAKES_VALUE and _is_there(word)
    ]
    keys = {word.partition("=")[0] for word in words}
    if command != "predict" or not images or "images" in keys or "path" not in keys:
        return list(words)
    return [*(word for word in words if word not in images), f"images=[{','.join(map(quoted, images))}]"]


def _several(value: str) -> list[str]:
    """The parts of a list of files that was typed without quotes, `[a.png,b c.png]` or `a.png,b.png`."""
    inside = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if set("'\"") & set(inside) or "${" in inside or "," not in inside or _is_there(value):
        return []
    return [part.strip() for part in inside.split(",") if part.strip()]


def _is_there(value: str) -> bool:
    """Whether there is a file or a folder of this name."""
    try:
        return bool(value) and os.path.lexists(Path(value).expanduser())
    except (OSError, ValueError, RuntimeError):
        return False


def _is_odd(value: str) -> bool:
    """Whether Hydra would take a name for more than text."""
    return not re.fullmatch(r"[\w/.+@%:?|*-]+", value, re.ASCII) or bool(NOT_TEXT.fullmatch(value))


def _means_text(value: str, key: str) -> bool:
    """Whether Hydra would make of the name of a file a number, a function's result or a refusal. Some keys hold lists
    and mappings as well.
    """
    other = "'\"" if key.rpartition(".")[2] in ("output_dir", "path", "root", "start_from") else "'\"[{"
    if not value or value[0] in other or "${" in value or value == "null" or "," in value:  # several: a sweep
        return False
    function = re.fullmatch(r"(choice|range|interval|glob|sort|shuffle|tag|int|float|str|bool|json_str)\(.*\)", value)
    return not function and _is_odd(value)
