"""Hydra's own refusals in the house form: which key, which rule, which value, and what to do."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

from kd_cli.cli import schema
from kd_cli.cli.choices import choices
from kd_cli.cli.guesses import WEIGHTS
from kd_cli.cli.hints import mended, named, suggestion
from kd_cli.cli.job import ANSWERS
from kd_cli.cli.schema import QUOTE
from kd_cli.cli.spelling import spelt
from kd_cli.cli.typed import Words, first, swept
from kd_cli.errors import did_you_mean, must

KINDS = {"Float": "a number", "Integer": "a whole number", "bool": "true or false"}


def translate(error: BaseException, command: str, words: Sequence[str]) -> str:
    """One message for an error that Hydra or OmegaConf raised while it composed the config of `command`."""
    text = "\n".join(_chain(error))
    typed = Words(command, tuple(words))
    overrides = typed.parts[0]
    if found := re.search(r"Could not (?:find|load) '([^'\n]+)'", text):
        return _unknown_choice(found.group(1), text, typed)
    if found := re.search(r"You must specify '([^']+)'", text):
        group = found.group(1)
        key = group.rpartition("@")[2]
        return f"{key} must be given, one of {', '.join(choices(group.partition('@')[0], typed.own))}: {key}=…"
    if found := re.search(r"Value '(.*?)' (?:of type '\w+' )?(?:could not be converted to|is not a valid) (\w+)", text):
        value, kind = found.groups()
        place = re.search(r"full_key: (\S+)", text) or re.search(r"override ([^=\s]+)=", text)
        key = place.group(1) if place else "a value"
        several = [f"{key}={value[1:-1].replace(' ', '')}" if w.startswith(f"{key}=[") else w for w in overrides]
        if value.startswith("[") and typed.accepts(several):
            sweep = replace(typed, command="sweep")
            return str(must(key, KINDS.get(kind, kind), value, f"Write: {sweep.line(several)}"))
        return str(must(key, KINDS.get(kind, kind), value, QUOTE if "seed" in key else ""))
    if found := re.search(r"Could not (?:override|delete from config\.?) '?([^'\s]+)'?", text):
        return _unknown_key(found.group(1).rstrip(".").removeprefix("teacher@"), typed)
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
        return f"A config group must be given a choice, got {empty or 'none'}. Without it there is the default."
    if found := re.search(r"field '(\w+)' is not Optional", text):
        key, held = found.group(1), typed.known.get(found.group(1))
        return str(must(key, "given a value", "null", f"Without it there is the default, {key}={held}."))
    if found := re.search(r"Cannot assign \w+ to Dict.*\s+full_key: (\S+)", text):
        key = found.group(1)
        got = next((word.partition("=")[2] for word in overrides if word.startswith(f"{key}=")), "a word")
        keys = [f"{name}=…" for name in typed.known if name.startswith(f"{key}.")]
        return str(must(key, "a mapping", got, f"Set its keys one by one: {', '.join(keys)}." if keys else ""))
    if found := re.search(r"Cannot merge DictConfig with ListConfig\s+full_key: (\S+)", text):
        key, hint = found.group(1), ""
        if key == "teacher.members":
            hint = "A list of teachers is written 'teacher.members=[mlp_1200,cnn,outputs/teachers/<id>]'."
        got = next((word.partition("=")[2] for word in overrides if word.startswith(f"{key}=")), "a list")
        return str(must(key, "a mapping", got, hint))
    if "is not a ListConfig" in text and (found := re.search(r"override ([^=\s]+)=(.*)", text)):
        key, value = found.groups()
        return str(must(key, "a list", value, f"Write {shlex.quote(f'{key}=[{value}]')}."))
    if "sweep override" in text or "requires --multirun" in text or "Ambiguous value for argument" in text:
        return _several(typed)
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found.group(1)} must be given: {found.group(1)}=…"
    return "\n".join(line for line in text.splitlines() if line and "hydra.cc" not in line)


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
        return _unknown_key(unknown.lstrip("+~").partition("=")[0], typed)
    return f"Several values for a key make a sweep. Write {typed.line(overrides).replace('kd distill', 'kd sweep')}."


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        error = error.__cause__


def _unknown_choice(path: str, text: str, typed: Words) -> str:
    listed = re.search(r"Available options in '[^']*':\n((?:\t[^\n]+\n?)+)", text)
    for word in typed.parts[0]:  # `dataset=./my_images`, of which Hydra makes the group `dataset/.`
        key, _, value = word.partition("=")
        spelling = spelt(word, typed.own)[0].partition("=")[2]  # `~` is a folder by then
        place = key.rpartition("@")[2]
        group = {"generalist": "teacher", "member": "teacher"}.get(place.rpartition(".")[2], place.rpartition(".")[2])
        if path == f"{key.partition('@')[0]}/{spelling}" and (
            "/" in value or value.endswith(WEIGHTS) or value[:1] == "."
        ):
            return str(must(key, f"one of {', '.join(choices(group, typed.own))}", value, _instead(typed, value)))
    group, _, choice = path.rpartition("/")
    there = sorted({*choices(group, typed.own), *(listed.group(1).split() if listed else [])})
    hint = did_you_mean(choice, there)
    if not hint and group in ("student", "teacher") and choice in choices("model", typed.own):
        hint = f"A network under another recipe is {group}.model={choice}."
    return str(must(group, f"one of {', '.join(there)}", choice, hint))


def _instead(typed: Words, value: str) -> str:
    """The line for a folder of images, a stored teacher or a checkpoint."""
    found = mended(typed) if value.endswith(WEIGHTS) else None
    if found is None:
        return suggestion(typed)
    line = typed.line([word for word in found[0] if word != "teacher.model=cnn"])
    networks = ", ".join(choices("model", typed.own))
    return f"Write: {line} teacher.model=<the network that it holds>, one of {networks}."


def _unknown_key(key: str, typed: Words) -> str:
    word = next((word for word in typed.parts[0] if word.lstrip("+~").startswith(f"{key}=")), f"{key}=")
    said = f"{key} must be a key of kd {typed.command.replace('_', '-')}, got {word!r}."
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
        or f"kd {typed.command.replace('_', '-')} --help lists the keys."
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
    for command in ("distill", "dump_targets", *schema.SCHEMAS):
        other = Words(command, typed.words)
        if key.partition(".")[0] in schema.keys(command) and other.accepts(other.parts[0]):
            return f"Write: {other.line(other.parts[0])}"
    return ""
