"""What people type, as Hydra has it. Imports neither hydra nor torch."""

import re
from collections.abc import Sequence
from pathlib import Path

from kd_cli.screen import quoted

TAKES_VALUE = {"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c",
               "--experimental-rerun"}  # fmt: skip
FLAGS = TAKES_VALUE | {"--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
                       "--info", "-i", "--shell-completion", "-sc"}  # fmt: skip
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
CHOSEN = {"teacher.member": "teacher", "teacher.generalist": "teacher", "transfer.dataset": "dataset"}  # by their group
FILES = (
    "output_dir",
    "path",
    "root",
    "images",
    "start_from",
    "sweep",
)  # the last part of keys that name a file or a folder
NOT_TEXT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)([eE][-+]?\d+)?|true|false|inf|nan|[-+](inf|nan)", re.IGNORECASE)


def is_override(word: str) -> bool:
    """Whether Hydra takes a word as one: `key=value` or `~key`."""
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
    """What was given to a flag: `--config-dir x` or `--config-dir=x`; "" where nothing follows it."""
    for k, word in enumerate(flags):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(flags[k + 1 :]), "")
    return None


def config_dirs(flags: Sequence[str]) -> list[Path]:
    """A person's own folder of configs."""
    folder = value_of(flags, "--config-dir", "-cd")
    return [Path(folder).absolute()] if folder else []


def placed(command: str, overrides: Sequence[str]) -> list[str]:
    """Keys of the stored data set, which kd evaluate adds to what it finds, where no other is chosen."""
    if command != "evaluate" or any(word.startswith("dataset=") for word in overrides):
        return list(overrides)
    return [f"+{word}" if word.startswith("dataset.") else word for word in overrides]


def spelt(word: str) -> list[str]:
    """`teacher.member=mlp_1200` and `teacher.members=[cnn,outputs/teachers/<id>]` as Hydra has them: it would take what
    stands for a file of configs/ as a string. A word with a `/` is a folder. The name of a file stays as it was typed.
    """
    key, _, value = word.partition("=")
    if value == "~" or value.startswith("~/"):  # a shell leaves it in the middle of a word
        value = str(Path(value).expanduser())
        word = f"{key}={value}"
    if key.rpartition(".")[2] in FILES and _means_text(value):
        return [f"{key}={quoted(value)}"]
    if not value.isascii() and not set(value) & set("'\"[]{}()$\\"):  # Hydra wants letters that are not ASCII quoted
        word = f"{key}={','.join(part if part.isascii() else quoted(part) for part in value.split(','))}"
    if key in CHOSEN and re.fullmatch(r"[\w,-]+", value) and value != "null":
        return [f"{CHOSEN[key]}@{word}"]
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


def _means_text(value: str) -> bool:
    """Whether Hydra would make of the name of a file a number, a function's result or a refusal."""
    if not value or value[0] in "'\"[{" or "${" in value or value == "null" or "," in value:  # several: a sweep
        return False
    function = re.fullmatch(r"(choice|range|interval|glob|sort|shuffle|tag|int|float|str|bool|json_str)\(.*\)", value)
    return not function and bool(NOT_TEXT.fullmatch(value) or re.search(r"[^\w/.+@%:?|*-]", value, re.ASCII))
