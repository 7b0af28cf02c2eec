"""The one place where text leaves for a terminal, a pipe, a log or a spreadsheet: whatever a name, a value or an error
of others holds, it stays text. `table` and `progress` draw what this module makes of it.
"""

import codecs
import contextlib
import copy
import csv
import io
import logging
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

READS_AS_ESCAPE = re.compile(r"\\+(?=\0|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
FORMULA = tuple("=+-@＝＋－＠")  # what a spreadsheet computes
PLAINER = {
    "–": "-", "—": "-", "−": "-", "±": "+/-", "×": "x", "²": "^2", "≥": ">=", "…": "...", "·": ".", "→": "->",
}  # fmt: skip


def shown(value: Any) -> str:
    """Return a value as one line of which everything can be seen. Two values that differ are shown differently.

    What moves, hides or turns letters, or is none, becomes an escape like `\\x1b`, as does a blank at an end;
    backslashes before what reads as an escape are doubled.
    """
    text = re.sub(r"^ | $", "\0x20", "".join(map(_visible, str(value))))
    return READS_AS_ESCAPE.sub(r"\g<0>\g<0>", text).replace("\0", "\\")


def prose(text: str) -> str:
    """Text of several lines: it keeps those and its tabs, everything else as in `shown`."""
    return "".join(letter if letter in "\n\t" else _visible(letter) for letter in text).replace("\0", "\\")


def say(text: str) -> None:
    """Prints on standard error."""
    print(prose(text), file=sys.stderr)


def answer(text: str) -> None:
    """Prints on standard output."""
    print(prose(text))


def answer_path(path: Path) -> None:
    """Prints a path on standard output: for a program as it is, byte by byte."""
    if sys.stdout.isatty() or not isinstance(sys.stdout, io.TextIOWrapper):
        answer(str(path))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + b"\n")
    sys.stdout.flush()


@contextlib.contextmanager
def quoting() -> Iterator[None]:
    """What libraries print meanwhile is printed at its end, shown as text too."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        print(prose(printed.getvalue()), end="")


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a heading and a line for each row. Text that a spreadsheet would compute begins with an apostrophe."""
    writer = csv.writer(file, lineterminator="\n")  # which a stream writes as its platform's
    writer.writerow(map(_cell, columns))
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)


def override(key: str, value: Any) -> str:
    """`key=value` as a hint has it, to be pasted into a shell: quoted for it, and for Hydra, where that is needed."""
    text = str(value)
    if not re.fullmatch(r"[\w./:@%+-]+( [\w./:@%+-]+)*", text, re.ASCII):
        text = quoted(text)
    return shlex.quote(f"{key}={text}")


def quoted(value: str) -> str:
    """Return a value that Hydra takes as text, whatever it holds."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def as_utf8(name: str) -> str:
    """Return a file's name as text, the same under every locale: names are bytes, and read as UTF-8 here."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def prepare_streams() -> None:
    """Makes a process's streams, warnings and last words show what they are given, in every encoding."""
    codecs.register_error("kd", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="kd")
    warnings.showwarning = lambda *about, **_: say(warnings.formatwarning(*about[:4]).rstrip())
    sys.excepthook = lambda *error: say("".join(traceback.format_exception(*error)).rstrip())


class Lines(logging.Formatter):
    """Log lines: a value is one line of them at most, an exception's traceback as many as it has."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        ours = copy.copy(record)
        if isinstance(record.args, tuple):
            ours.args = tuple(shown(x) if isinstance(x, str | Path | BaseException) else x for x in record.args)
        return prose(super().format(ours))


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else "\0" + _code(letter)


def _code(letter: str) -> str:
    number = ord(letter)
    return f"x{number:02x}" if number < 1 << 8 else f"u{number:04x}" if number < 1 << 16 else f"U{number:08x}"


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = shown(value)
    return f"'{text}" if text.startswith(FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plainer(error: UnicodeError) -> tuple[str | bytes, int]:
    """For an encoding that lacks a letter: the nearest sign that it has, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    return PLAINER.get(letter, "\\" + _code(letter)), error.start + 1
