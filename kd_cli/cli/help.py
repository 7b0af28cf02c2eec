"""What `kd --help` and `kd <command> --help` print. Imports neither hydra nor torch: help must be there at once."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import wrap

from kd_cli.cli.choices import choices
from kd_cli.cli.manual import Key, commands, manual
from kd_cli.cli.spelling import config_dirs, sorted_out
from kd_cli.errors import did_you_mean, must

SECTIONS = {  # in this order; `x.` takes the keys below x, and the last section all that is left
    "What to look at": ("path", "images", "texts", "split", "sweep", "yes", "force", "format"),
    "What to distil": ("dataset", "teacher", "student", "experiment"),
    "Distillation": ("objective", "temperature", "soft_weight", "hard_weight", "baseline", "bias_correction"),
    "Student and its training": ("student.",),
    "Teacher": ("teacher.",),
    "Data set": ("dataset", "dataset.", "normalisation", "normalisation."),
    "Transfer set and soft targets": ("transfer.", "targets."),
    "Store and run": ("output_dir", "seed", "device", "precision", "resume", "rebuild", ""),
}
SET_ELSEWHERE = ("objective.temperature", "objective.soft_weight", "objective.hard_weight")  # kept for Hydra alone
WIDEST = 120  # columns: longer lines are hard to read
FLAGS = {
    "--cfg job": "the config as it would run",
    "--multirun": "every combination of values separated by commas, as kd sweep does",
    "--config-dir <folder>": "a folder of your own configs; its choices are listed above too",
    "--info, --hydra-help": "what Hydra has found, and all of its flags",
}


def usage() -> str:
    """Return what `kd --help` prints."""
    known = commands()
    return "\n".join(
        [
            "kd: knowledge distillation from the command line",
            "",
            "  kd <command> [key=value …]",
            "",
            *_rows(known.items()),
            "",
            "  kd distill dataset=mnist teacher=mlp_1200 student=mlp_800 temperature=20",
            "",
            *_rows(
                {
                    "kd <command> --help": "the keys and choices of a command",
                    "kd <command> --cfg job": "the config as it would run",
                    'eval "$(kd completion bash)"': "completes commands, choices and keys; also zsh and fish",
                }.items()
            ),
        ]
    )


def page(command: str, words: Sequence[str]) -> str:
    """Return what `kd <command> <words> --help` prints: the keys that go with what is chosen by the words.

    Raises ConfigError for a word that chooses what there is not. Other words do not matter here.
    """
    overrides, flags, _ = sorted_out(words)
    own = config_dirs(flags)
    typed = {key.rpartition("@")[2].lstrip("+"): value for key, _, value in (word.partition("=") for word in overrides)}
    keys = [each for each in manual(command, typed, own) if each.name not in SET_ELSEWHERE]
    for each in keys:
        known = choices(each.group, own)
        if each.group and each.name in typed and each.default not in (*known, "null") and "," not in each.default:
            raise must(each.name, f"one of {', '.join(known)}", each.default, did_you_mean(each.default, known))
    lines = [f"kd {command.replace('_', '-')} [key=value …]", ""]
    lines += [*wrap(commands()[command.replace("_", "-")], _width()), ""]
    listed: set[str] = set()
    for title, group in sections(keys).items():
        lines += [title, *_keys(group, listed, own), ""]
    if any(each.name == "teacher" for each in keys):
        example = f"kd {command.replace('_', '-')} teacher=ensemble --help"
        lines += [*wrap(f"* is chosen. With another choice come other keys: {example}", _width())]
        lines += wrap("Nested keys are dotted. A shell wants lists quoted: 'teacher.model.widths=[30,30]'.", _width())
        lines += ["", *_rows(FLAGS.items())]
    return "\n".join(lines).rstrip()


def sections(keys: Iterable[Key]) -> dict[str, list[Key]]:
    """Return the keys as a person looks for them: title → keys, in the order in which SECTIONS names them."""
    found: dict[str, list[Key]] = {}
    left = list(keys)
    distils = any(each.name == "teacher" for each in left)
    for title, names in SECTIONS.items():
        for name in names if distils or title != "What to distil" else ():
            taken = [
                each for each in left if each.name == name or (name[-1:] in (".", "") and each.name.startswith(name))
            ]
            left = [each for each in left if each not in taken]
            if taken:
                found.setdefault(title, []).extend(taken)
    return found


def _keys(keys: Sequence[Key], listed: set[str], own: Sequence[Path]) -> Iterator[str]:
    """Yield the lines of a section. A group's choices are listed where it stands first: `listed` holds those that are.

    What only a teacher's training would repeat of a student's is one line.
    """
    rows: dict[str, str] = {}
    for key in keys:
        text = key.meaning
        if "recipe" in listed and (nested := re.match(r"teacher\.(.*\.)?train\.", key.name)):
            rows[f"{nested[0]}<key>=…"] = "the keys of student.train, each with a value of its own"
            continue
        if key.group and key.group not in listed:
            known = choices(key.group, own)
            chosen = [f"{name}*" for name in known if name == key.default]
            text += "\n" + " ".join([*chosen, *(name for name in known if name != key.default)])
        rows[f"{key.name}={key.default}"] = text
    listed |= {key.group for key in keys}
    return _rows(rows.items())


def _rows(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield two columns, the right one wrapped; a left cell that is too long has a line of its own."""
    pairs = list(pairs)
    room = _width()
    left = min(max(len(name) for name, _ in pairs), max(16, room * 2 // 5))
    for name, text in pairs:
        lines = [
            line for part in text.split("\n") for line in wrap(part, max(20, room - left - 4), break_on_hyphens=False)
        ]
        if len(name) > left:
            yield f"  {name}"
            name = ""
        for line in lines or [""]:
            yield f"  {name:<{left}}  {line}".rstrip()
            name = ""


def _width() -> int:
    """Return the columns of the terminal, also where a pager stands between (`kd … --help | less`); else 100."""
    columns = os.environ.get("COLUMNS", "")
    found = [int(columns)] if columns.isdigit() and int(columns) else []
    for stream in (1, 2, 0):
        with suppress(OSError):
            found.append(os.get_terminal_size(stream).columns)
    return max(40, min(next(filter(None, found), 100), WIDEST))
