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
from typing import Any, Self


class KdError(Exception):
    """Root of every error that a person can mend: what is `said`, or that `key` must be `rule` and is `value`, with a
    `remedy`. `keys` stand at the `{}` of what is said, and of the remedy.

    A key that starts with a dot is relative, as in `${.epochs}`: who knows where it stands completes it by `under`.
    """

    key = rule = ""
    value: Any = None

    def __init__(self, said: str = "", remedy: str = "", *keys: str) -> None:
        super().__init__(said, remedy, *keys)
        self.said, self.remedy = said, remedy
        self.keys: Sequence[str] = keys

    @classmethod
    def must(cls, key: str, rule: str, value: Any, remedy: str = "", *keys: str) -> Self:
        """Return the house form of a refusal: `<key> must be <rule>, got <value>. <remedy>`."""
        error = cls("", remedy, *keys)
        error.key, error.rule, error.value = key, rule, value
        return error

    @property
    def problem(self) -> str:
        """What is wrong, without what to do."""
        if not self.rule:
            return self._filled(self.said)
        return f"{self.key.lstrip('.') or 'It'} must be {self.rule}, got {_shown(self.value)}."

    def __str__(self) -> str:
        if self.rule:
            return f"{self.problem} {self._filled(self.remedy)}".rstrip(" ")
        return self._filled(f"{self.said} {self.remedy}").rstrip(" ")

    def _filled(self, text: str) -> str:
        for key in self.keys:  # not `format`: there are braces in paths, and in what was typed
            text = text.replace("{}", key.lstrip("."), 1)
        return text


class ConfigError(KdError):
    """A value that was typed is outside its rule."""


must = ConfigError.must


class DataError(KdError):
    """A data set is missing, damaged, or does not fit the models."""


class ArtifactError(KdError):
    """A stored teacher, student or target folder cannot be used."""


class UnreadableError(ArtifactError):
    """A stored file that the system does not let be read: it may be whole."""


class TrainingError(KdError):
    """Training itself went wrong."""

    CALMER = ("Try a lower {}, {}=1 or {}=32.", ".train.optimizer.lr", ".train.clip", ".train.precision")


class ForeignError(KdError):
    """A file, a service or a device failed in somebody else's code."""


class Phrase(str):
    """A value that is told in words, and not quoted: `an error: …`."""


@contextmanager
def under(place: str) -> Iterator[None]:
    """Within it, what refusals say of `.train.epochs` is said of `<place>.train.epochs`."""
    try:
        yield
    except KdError as error:
        error.key, *error.keys = (_below(place, key) for key in (error.key, *error.keys))
        raise


def _below(place: str, key: str) -> str:
    return f"{place}{key}".rstrip(".") if key.startswith(".") else key


def _shown(value: Any) -> object:
    plain = isinstance(value, Phrase) or (isinstance(value, int | float) and not isinstance(value, bool))
    return str(value) if plain else repr(value)


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """Return a sentence that names the closest choice, one that begins with the word before any other, or nothing."""
    small, word = {choice.lower(): choice for choice in reversed(choices)}, word.lower()
    begun = [choice for choice in small if choice.startswith(word)]
    close = get_close_matches(word, begun, n=1, cutoff=0.3) or get_close_matches(word, small, n=1, cutoff=0.5)
    return f"Did you mean {small[close[0]]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """Return what fits into a line of an error."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def reason(error: Exception) -> str:
    """Return why a file could not be read or written, in the system's words, and what helps where the file is not to
    blame.
    """
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
