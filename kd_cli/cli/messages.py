"""Hydra's own refusals in the house form: which key, which rule, which value, and what to do.

They are told apart by their types and fields, and what has none by the override that does not fit. Hydra's English is
read where nothing else says which group is meant.
"""

import re
import shlex
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import BooleanNode, DictConfig, FloatNode, IntegerNode, ListConfig, StringNode
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from kd_cli.cli.choices import choices
from kd_cli.cli.guesses import WEIGHTS
from kd_cli.cli.hints import mended, named, suggestion
from kd_cli.cli.job import ANSWERS
from kd_cli.cli.keys import SCHEMAS, keys
from kd_cli.cli.refusals import QUOTING
from kd_cli.cli.schema import QUOTE
from kd_cli.cli.spelling import NOT_TEXT
from kd_cli.cli.typed import Words, first, is_sweep, swept
from kd_cli.errors import did_you_mean, first_line, must

RULES = {
    FloatNode: "a number", float: "a number", IntegerNode: "a whole number", int: "a whole number",
    BooleanNode: "true or false", StringNode: "a word", str: "a word", ListConfig: "a list", DictConfig: "a mapping",
}  # fmt: skip
MEMBERS = "A list of teachers is written 'teacher.members=[mlp_1200,cnn,outputs/teachers/<id>]'."
GROUP_NEEDED = re.compile(r"You must specify '([^'@]+)(?:@([^']+))?'")  # the error has no field for it


def is_hydras(error: Exception) -> bool:
    """Return whether Hydra refuses what was typed, or what stands in a YAML, before anything of kd's is at work."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return True
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [name for name in modules if name.startswith("kd_cli.") and name != "kd_cli.cli.main"]
    return not ours and modules[-1].partition(".")[0] in ("hydra", "omegaconf", "yaml")


def translate(error: Exception, command: str, words: Sequence[str]) -> str:
    """One message for an error that Hydra or OmegaConf raised while it composed the config of `command`."""
    typed = Words(command, tuple(words))
    for each in _chain(error):
        match each:
            case MissingConfigException():
                return _unknown_choice(each, typed)
            case OverrideParseException():
                return str(must("An argument", "key=value", each.override, QUOTING))
            case yaml.MarkedYAMLError(problem_mark=yaml.Mark() as mark):
                return f"{mark.name} must be YAML, got {each.problem} in line {mark.line + 1}."
            case OmegaConfBaseException() if each.full_key and not isinstance(each, InterpolationResolutionError):
                return _at_key(each, typed, composing=each is not error)
    if not typed.sweeps and any(map(is_sweep, typed.parts[0])):
        return _several(typed)
    if found := GROUP_NEEDED.search(str(error)):
        group, place = found.groups()
        key = place or group
        return f"{key} must be given, one of {', '.join(choices(group, typed.own))}: {key}=…"
    if typed.fault is not None and (said := _unfit(typed.fault, typed)):
        return said
    return "\n".join(line for line in str(error).splitlines() if line and "hydra.cc" not in line) or first_line(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _at_key(error: OmegaConfBaseException, typed: Words, composing: bool) -> str:
    """An error of OmegaConf's about the value at a key."""
    key, value = str(error.full_key), error.value
    word = max((word for word in typed.parts[0] if _about(word, key)), key=lambda word: len(_name(word)), default=None)
    if isinstance(error, MissingMandatoryValue):
        return f"{key} must be given: {key}=…"
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        if not composing:  # it was removed
            return f"{key} must be given."
        where = typed.fault or "a YAML"
        return _unknown_key(word, typed) if word else f"{key} must be a key of kd {typed.name}, got it from {where}."
    text = str(value if value is not None or word is None else word.partition("=")[2])
    rule = _rule(error)
    if value is None and isinstance(error, ValidationError):
        hint = f"Without it there is the default, {key}={typed.known.get(key)}."
        return str(must(key, "given a value", "null", hint))
    if rule == "a list":
        return str(must(key, rule, text, f"Write {shlex.quote(f'{key}=[{text}]')}."))
    if rule == "a mapping":
        below = [f"{name}=…" for name in typed.known if name.startswith(f"{key}.")]
        hint = f"Set its keys one by one: {', '.join(below)}." if below and value is not None else ""
        return str(must(key, rule, text, MEMBERS if key == "teacher.members" else hint))
    if rule and isinstance(value, list) and len(value) > 1:
        several = [f"{key}={','.join(map(str, value))}" if w is word else w for w in typed.parts[0]]
        sweep = replace(typed, command="sweep")
        return str(must(key, rule, text, f"Write: {sweep.line(several)}" if typed.accepts(several) else ""))
    emptied = "seed" in key and not NOT_TEXT.fullmatch(text)
    return str(must(key, rule or "one that can be resolved", text, QUOTE if emptied else ""))


def _about(word: str, key: str) -> bool:
    """Whether an override sets this key, what it stands in, or something in it."""
    name = _name(word)
    return f"{name}.".startswith(f"{key}.") or key.startswith((f"{name}.", f"{name}["))


def _name(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].rpartition("@")[2]


def _rule(error: OmegaConfBaseException) -> str:
    """What the value at the place of an error must be, by its schema; "" where there is none."""
    parent, key = error.parent_node, error.key
    if isinstance(error, ConfigTypeError):  # a mapping and a list do not merge
        return "a mapping"
    if isinstance(parent, ListConfig):
        return RULES.get(parent._metadata.element_type, "")
    return RULES.get(type(parent._get_node(key)), "") if isinstance(parent, DictConfig) else ""


def _unfit(word: str, typed: Words) -> str:
    """An override that Hydra cannot compose, where its error names none; "" where it is not to blame."""
    name, text = _name(word), word.partition("=")[2]
    parsed = OverridesParser.create().parse_override(typed.spelt(word)[0])
    if parsed.is_delete() and text:
        return str(must("A config group that ~ removes", "named by a word", word, "Leave its value out."))
    if word.startswith("+") and name in typed.known:
        hint = f"Write {shlex.quote(f'{name}={text}')}."
        return str(must(name, "written without +, for it is there", word, hint))
    chooses = parsed.package is not None or bool(choices(parsed.key_or_group, typed.own))
    if chooses and not isinstance(parsed.value(), str) and not parsed.is_delete():
        return f"A config group must be given a choice, got {word}. Without it there is the default."
    return "" if name in typed.known or name.startswith("hydra") or name == "experiment" else _unknown_key(word, typed)


def _several(typed: Words) -> str:
    """`temperature=1,2` without a sweep; a list without its brackets."""
    overrides = typed.parts[0]
    for word in overrides:
        key, _, value = word.partition("=")
        if not swept(word):
            continue
        bracketed = [f"{key}=[{value}]" if other is word else other for other in overrides]
        if typed.is_list(word) and typed.accepts(bracketed):
            return str(must(key, "a list in brackets", value, f"Write: {typed.line(bracketed)}"))
        if typed.command in ANSWERS:
            single = [first(other) for other in overrides]
            hint = f"Write: {typed.line(single)}" if typed.accepts(single) else ""
            return str(must(key, f"one value for kd {typed.command}", value, hint))
    if unknown := next((word for word in overrides if word not in typed.fitting), None):
        return _unknown_key(unknown, typed)
    return f"Several values for a key make a sweep. Write {typed.line(overrides).replace('kd distill', 'kd sweep')}."


def _unknown_choice(error: MissingConfigException, typed: Words) -> str:
    """A file of a group that is not there: at which key it was asked for, and what there is."""
    file = str(error.missing_cfg_file)
    group, _, choice = file.rpartition("/")
    key, value = group, choice
    for word in typed.parts[0]:
        for parsed in OverridesParser.create().parse_overrides(typed.spelt(word)):
            if file in [f"{parsed.key_or_group}/{name}" for name in _names(parsed)]:
                group, key, value = parsed.key_or_group, parsed.package or parsed.key_or_group, word.partition("=")[2]
    there = sorted({*choices(group, typed.own), *(error.options or [])})
    if "/" in value or value.endswith(WEIGHTS) or value.startswith("."):
        return str(must(key, f"one of {', '.join(there)}", value, _instead(typed, value)))
    hint = did_you_mean(choice, there)
    if not hint and group in ("student", "teacher") and choice in choices("model", typed.own):
        hint = f"A network under another recipe is {key}.model={choice}."
    return str(must(key, f"one of {', '.join(there)}", choice, hint))


def _names(parsed: Override) -> list[str]:
    """What an override chooses from its group."""
    value = parsed._value
    several = value.list if isinstance(value, ChoiceSweep) else value
    return [str(name) for name in (several if isinstance(several, list) else [several])]


def _instead(typed: Words, value: str) -> str:
    """The line for a folder of images, a stored teacher or a checkpoint."""
    found = mended(typed) if value.endswith(WEIGHTS) else None
    if found is None:
        return suggestion(typed)
    line = typed.line([word for word in found[0] if word != "teacher.model=cnn"])
    networks = ", ".join(choices("model", typed.own))
    return f"Write: {line} teacher.model=<the network that it holds>, one of {networks}."


def _unknown_key(word: str, typed: Words) -> str:
    key = _name(word)
    said = f"{key} must be a key of kd {typed.name}, got {word!r}."
    if key in ("teacher.member", "teacher.members"):
        return f"{said} Choose it with teacher=ensemble."
    if key == "teacher.generalist":
        return f"{said} Choose it with teacher=specialists."
    hint = (
        _of_another_job(word, typed)
        or _typo(key, word, typed, 0.8)
        or suggestion(typed)
        or _of_another_command(key, typed)
        or _typo(key, word, typed, 0.5)
        or named(typed, key)
        or f"kd {typed.name} --help lists the keys."
    )
    return f"{said} {hint}"


def _typo(key: str, word: str, typed: Words, cutoff: float) -> str:
    """A key beside it that is spelt nearly alike, or any, if it takes what was typed."""
    parent, _, leaf = key.rpartition(".")
    siblings = [name.rpartition(".")[2] for name in typed.known if name.rpartition(".")[0] == parent]
    for meant in get_close_matches(leaf, siblings, 1, cutoff):
        if typed.accepts([*typed.fitting, f"{parent}.{meant}={word.partition('=')[2]}".lstrip(".")]):
            return f"Did you mean {meant!r}?"
    for meant in get_close_matches(key, list(typed.known), 1, 0.6) if cutoff < 0.6 else []:
        if typed.accepts([*typed.fitting, f"{meant}={word.partition('=')[2]}"]):
            return f"Did you mean {meant!r}?"
    return ""


def _of_another_job(word: str, typed: Words) -> str:
    """`teacher=cnn_digits,ensemble teacher.size=2`: a key that some of the jobs lack."""
    for choice in typed.fitting:
        name, rest = choice.partition("=")[0], [other for other in typed.fitting if other not in (choice, word)]
        values = list(map(str, swept(choice) or []))
        have = [value for value in values if typed.accepts([*rest, f"{name}={value}", word])]
        lack = [value for value in values if value not in have]
        if not have or not lack:
            continue
        others = [other for other in typed.parts[0] if other not in (choice, word)]
        lines = [*others, f"{name}={','.join(have)}", word], [*others, f"{name}={','.join(lack)}"]
        hint = f" Write two sweeps: {typed.line(lines[0])} and {typed.line(lines[1])}"
        return f"{name}={','.join(lack)} has none.{hint if all(map(typed.accepts, lines)) else ''}"
    return ""


def _of_another_command(key: str, typed: Words) -> str:
    """`kd train-teacher student=mlp_64`: a key of kd distill."""
    for command in ("distill", "dump_targets", *SCHEMAS):
        other = Words(command, typed.words)
        if key.partition(".")[0] in keys(command) and other.accepts(other.parts[0]):
            return f"Write: {other.line(other.parts[0])}"
    return ""
