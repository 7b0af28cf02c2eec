"""What can go wrong, as the person at the terminal sees it.

    KdError
    ├── ConfigError      a value that was typed is outside its rule
    ├── DataError        a data set is missing, damaged or does not fit
    ├── ArtifactError    a stored teacher, student or target folder cannot be used
    ├── TrainingError    training itself went wrong (the loss turned NaN)
    └── ForeignError     a file, a service or a device failed in somebody else's code

Each is shown as one message, without a traceback, and ends the command with status 1.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any


class KdError(Exception):
    """Root of every error that a person can mend."""


class ConfigError(KdError):
    """A value that was typed is outside its rule."""


class DataError(KdError):
    """A data set is missing, damaged, or does not fit the models."""


class ArtifactError(KdError):
    """A stored teacher, student or target folder cannot be used."""


class UnreadableError(ArtifactError):
    """A stored file that the system does not let be read: it may be whole."""


class TrainingError(KdError):
    """Training itself went wrong."""


class ForeignError(KdError):
    """A file, a service or a device failed in somebody else's code."""


def must(key: str, rule: str, value: Any, hint: str = "") -> ConfigError:
    """The house form of a refusal: `<key> must be <rule>, got <value>`, then what to do."""
    shown = value if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)
    return ConfigError(f"{key} must be {rule}, got {shown}." + (f" {hint}" if hint else ""))


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """A sentence that names the closest choice, or nothing."""
    small = {choice.lower(): choice for choice in reversed(choices)}
    close = get_close_matches(word.lower(), small, n=1, cutoff=0.5)
    return f"Did you mean {small[close[0]]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """What fits into a line of an error."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def reason(error: Exception) -> str:
    """Why a file could not be read or written, in the system's words, and what helps where the file is not to blame."""
    said = str(getattr(error, "strerror", None) or first_line(error)).rstrip(".")
    many = getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE)
    return f"{said}; `ulimit -n 4096` allows more" if many else said


@contextmanager
def reading(path: object) -> Iterator[None]:
    """Within it, what a file system refuses is a DataError that names the file: `path`, unless the system names one."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {reason(error)}.") from error


@contextmanager
def under(name: str) -> Iterator[None]:
    """Completes the key in a refusal: a recipe says `train.epochs`, the person typed `student.train.epochs`."""
    try:
        yield
    except KdError as error:
        if str(error).startswith(("train.", "model", "augment.", "dataset.", "path ")):
            raise type(error)(f"{name}.{error}") from error
        said = str(error).startswith(("teacher.", "teacher must "))
        if name.startswith("teacher.") and said and not str(error).startswith(name):
            raise type(error)(name + str(error).removeprefix("teacher")) from error  # a member's source says teacher
        raise
