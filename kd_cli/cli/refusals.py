"""What is refused before Hydra sees it: what is no key=value, and what kd does not do."""

import os
import re
from collections.abc import Sequence

from omegaconf.errors import MissingMandatoryValue

from kd_cli.cli import rules, schema
from kd_cli.cli.choices import choices
from kd_cli.cli.guesses import WEIGHTS
from kd_cli.cli.hints import named, suggestion
from kd_cli.cli.job import ANSWERS
from kd_cli.cli.keys import keys
from kd_cli.cli.spelling import group_of, is_override, sorted_out, value_of
from kd_cli.cli.typed import Words, first, matches, swept, unreadable
from kd_cli.errors import KdError, must

SHOWN = ("job", "hydra", "all")


def refused(command: str, words: Sequence[str]) -> str:
    """Return why this command line is refused; "" where Hydra may see it."""
    overrides, flags, strays = sorted_out(words)
    typed = Words(command, tuple(words))
    if "-sc" in flags or "--shell-completion" in flags:
        return ""
    if strays:
        return _stray(typed)
    if nameless := [word for word in overrides if not word.lstrip("+~").partition("=")[0].strip()]:
        return f"An argument must be key=value, got {nameless[0]!r}."
    if said := _flags(typed):
        return said
    for word in overrides:
        if any(unreadable(new) for new in typed.spelt(word)):
            if word.count("[") > word.count("]"):
                after = word.partition("=")[2]
                return f"An argument must be key=value with its brackets closed, got …{after}. Quote it for the shell."
            return f"An argument must be key=value, got {word!r}. {suggestion(typed) or QUOTING}"
    for word in overrides:
        if said := _added(typed, word) or _place(typed, word):
            return said
    shows = any(word.partition("=")[0] in ("--help", "-h", "--hydra-help", "--info", "-i") for word in flags)
    several = typed.sweeps
    if shows:
        return ""
    if several and command in ANSWERS:
        return f"kd {command} answers one question at a time: leave out --multirun."
    if (cfg := value_of(flags, "--cfg", "-c")) is not None:
        return _shown(typed, cfg, several)
    if command not in ANSWERS:
        try:
            rules.one_process(os.environ)
        except KdError as error:
            return str(error)
    return _sweep(typed) if several else ""


def _added(typed: Words, word: str) -> str:
    """`+epochs=5`, which Hydra would add beside the keys that mean something."""
    key = word.partition("=")[0]
    name = key.lstrip("+")
    if not key.startswith("+") or "@" in key or "/" in key:
        return ""
    if name.partition(".")[0] in (*keys(typed.command), "hydra"):
        return ""
    said = f"{name} must be a key of kd {typed.name}, got {word!r}."
    return f"{said} {suggestion(typed) or named(typed, name)}".strip()


def _place(typed: Words, word: str) -> str:
    """`teacher.generalist=outputs/teachers/<id>`: a folder where a choice belongs."""
    key, _, value = word.partition("=")
    if key not in ("teacher.generalist", "transfer.dataset") or "[" in value:
        return ""
    if not ("/" in value or value.endswith(WEIGHTS)) or typed.chosen(word):
        return ""
    return str(must(key, f"one of {', '.join(choices(group_of(key), typed.own))}", value, suggestion(typed)))


def _stray(typed: Words) -> str:
    overrides, _, strays = typed.parts
    word = strays[0]
    opened = [other for other in overrides if other.count("[") > other.count("]")]
    dashed = word.startswith("-") and not re.fullmatch(r"-\d.*", word)
    if dashed:
        said = f"A key is written key=value, without dashes, got {word!r}."
    elif opened:
        after = opened[0].partition("=")[2]
        said = f"An argument must be key=value with its brackets closed, got …{after}. Quote it for the shell."
    else:
        said = f"An argument must be key=value, got {word!r}."
    hint = suggestion(typed)
    name = word.lstrip("-").partition("=")[0].replace("-", "_")
    if not hint and name in typed.known:
        there = choices(name, typed.own)
        hint = f"Give it a value: {name}=…{f', one of {LIST.join(there)}' if there else ''}."
    if not hint and (hint := named(typed, name)) == "" and dashed:
        hint = f"kd {typed.name} --help lists the keys."
    return f"{said} {hint or ('' if opened else QUOTING)}".strip()


LIST = ", "
QUOTING = "Quote values that hold special characters: 'key=\"a value\"'."


def _flags(typed: Words) -> str:
    """A flag of Hydra's without its value, or one that kd itself gives."""
    overrides, flags, _ = typed.parts
    name = value_of(flags, "--config-name", "-cn")
    if name not in (None, typed.command):
        hint = (
            f"The command names its config. Make yours an experiment, my_configs/experiment/{name or 'mine'}.yaml that "
            f"begins with '# @package _global_', and write --config-dir my_configs experiment={name or 'mine'}."
        )
        return str(must("--config-name", "left out", name, hint))
    path = value_of(flags, "--config-path", "-cp")
    if path is not None:
        return str(must("--config-path", "left out", path, "--config-dir adds a folder of your own configs."))
    folder = value_of(flags, "--config-dir", "-cd")
    if folder is not None and not (folder and typed.own[0].is_dir()):
        return str(must("--config-dir", "a folder", folder))
    cfg = value_of(flags, "--cfg", "-c")
    if cfg is not None and cfg not in SHOWN:
        at = next(k for k, word in enumerate(flags) if word.partition("=")[0] in ("--cfg", "-c"))
        after = [cfg] if cfg and is_override(cfg) and "=" not in flags[at] else []
        line = Words(typed.command, ("--cfg", "job")).line([*overrides, *after])
        return str(must("--cfg", f"one of {', '.join(SHOWN)}", cfg, f"Write: {line}"))
    return ""


def _shown(typed: Words, what: str, several: bool) -> str:
    """What the schema says of a config that is only shown; Hydra says the rest itself."""
    overrides = typed.parts[0]
    single = [first(word) for word in overrides]
    for word in overrides:
        if said := _no_match(typed, word):
            return said
    if several and single != overrides and typed.accepts(single):
        many = next(word for word in overrides if first(word) != word)
        rule = f"given one value with --cfg {what}, which shows one job"
        return str(must("A key", rule, many, f"Write: {typed.line(single)}"))
    config = typed.config(overrides) if single == overrides else None
    if config is None or what == "hydra":
        return ""
    try:
        schema.check(typed.command, config)
    except MissingMandatoryValue:  # shown as what must be given
        return ""
    except KdError as error:
        return str(error)
    return ""


def _sweep(typed: Words) -> str:
    """Values that would make no job, or jobs that can only fail."""
    overrides = typed.parts[0]
    for word in overrides:
        key, _, value = word.partition("=")
        if key == "sweep" and value:
            name = re.split(r"[,\s]", value)[0]
            left = [f"sweep.name={name}" if other is word else other for other in overrides]
            hint = f"Write: {typed.line(left)}" if typed.accepts(left) else ""
            return str(must("sweep", "a mapping with the sweep's name", value, hint))
        if said := _no_match(typed, word):
            return said
        values = swept(word)
        if values is not None and None in values and ("@" in key or typed.chosen(word)):
            return _null(typed, word)
        nested = "." in key and values is not None
        if nested and not any(isinstance(each, list) for each in values or []) and typed.is_list(word):
            left = [f"{key}=[{value}]" if other is word else other for other in overrides]
            hint = f"Write: {typed.line(left)}" if typed.accepts(left) else ""
            return str(must(key, "a list in each job", value, hint))
    return ""


def _no_match(typed: Words, word: str) -> str:
    """A pattern that no file of the group fits would make a sweep of no job."""
    key, _, value = word.partition("=")
    there = choices(group_of(key) or key.partition("@")[0].lstrip("+"), typed.own)
    if there and matches(word, there) == []:
        return str(must(key, f"a pattern that fits one of {', '.join(there)}", value))
    return ""


def _null(typed: Words, word: str) -> str:
    """Hydra takes no null for a group among others: a sweep for each."""
    key, _, value = word.partition("=")
    others = [each for each in (swept(word) or []) if each is not None]
    lines = [
        typed.line([new if other is word else other for other in typed.parts[0]])
        for new in (typed.spelt(f"{key}=null")[0], f"{key}={','.join(map(str, others))}")
    ]
    return str(must(key, "null by itself, or without it", value, f"Write two sweeps: {lines[0]} and {lines[1]}"))
