"""A teacher that is a file of its answers: no network exists here, each sample is looked up."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_cli.data.augment import Augment
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Dataset, Split
from kd_cli.errors import DataError, Phrase, must
from kd_cli.progress import log
from kd_cli.ranges import number
from kd_cli.teachers.answer_file import read_answers
from kd_cli.teachers.identity import file_of
from kd_cli.teachers.named import class_order, list_of, names_of
from kd_cli.teachers.source import Answered
from kd_cli.teachers.teacher import Answering
from kd_cli.teachers.told import OUTPUTS, Form, look


@dataclass(frozen=True, kw_only=True)
class Predictions(Answered):
    """`path` holds a row for each sample of the transfer set, which it names by file name, index or the column `key`;
    `test` the same for the test split, where `path` does not name that. `classes` are those of arrays, in their order.
    """

    path: str
    test: str | None = None
    key: str | None = None
    classes: Sequence[str] | None = None
    gives: str | None = None
    allow_missing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gives is not None and self.gives not in OUTPUTS:
            raise must(".gives", f"one of {', '.join(OUTPUTS)}, or null", self.gives)
        number(".allow_missing", self.allow_missing, at_least=0, at_most=1)

    def open(self, dataset: Dataset, root: Path) -> Answering:
        """Return the answers, read and understood."""
        return LookedUp(self, dataset)


class LookedUp:
    """The rows of a file by the samples that they are about."""

    free = as_they_are = True

    def __init__(self, source: Predictions, dataset: Dataset) -> None:
        self.source, self.dataset, self.name = source, dataset, source.path
        self.allowed = source.allow_missing
        theirs = class_order(source.classes, dataset)
        self.order = [theirs.index(name) for name in dataset.classes]
        self.rows, self.form = self._read(source.path, ".path", theirs, dataset.transfer)
        log.info("%s holds %s", source.path, self.form)
        self.test: dict[str, Tensor] | None = None
        if source.test is not None:
            self.test, form = self._read(source.test, ".test", theirs, dataset.test)
            if form.labels != self.form.labels:
                raise DataError.must(".test", f"a file of {self.form}, as .path is", Phrase(str(form)))

    @property
    def top_k(self) -> int | None:
        """See `Answering`."""
        return self.form.top_k

    @property
    def labels(self) -> bool:
        """See `Answering`."""
        return self.form.labels

    def _read(self, path: str, place: str, theirs: Sequence[str], split: Split) -> tuple[dict[str, Tensor], Form]:
        """The logits of each sample that a file names, in the order of the data set's classes; of one that names none,
        as many rows as the `split` has are its samples in their order, others are counted by index.
        """
        source = self.source
        told = read_answers(Path(path), theirs, source.key, place)
        try:
            form = look(told.values, source.gives, told.labels)
        except ValueError as error:
            raise DataError.must(place, "a file of answers", Phrase(f"{path!r}: {error}")) from error
        logits = form.to_logits(told.values)[:, self.order]
        if told.keys is None:
            index = split.index.tolist() if len(split) == len(logits) else range(len(logits))
            return dict(zip(map(str, index), logits, strict=True)), form
        return dict(zip(_distinct(told.keys, logits, path), logits, strict=True)), form

    def identity(self) -> dict[str, Any]:
        """Return the file, and how it is read."""
        source, file = self.source, file_of(self.source.path)
        read = {"key": source.key, "gives": source.gives, "columns": list(source.classes or ())}
        return {"predictions": file, "classes": list(self.dataset.classes), **read}

    def check(self, split: Split) -> None:
        """Refuse a transfer set of which more samples than `allow_missing` have no row; say which rows are over."""
        rows, names = self._found(split)
        missing = [name for name, row in zip(names, rows, strict=True) if row is None]
        share, noun = len(missing) / max(1, len(names)), split.samples.spec.noun
        if len(missing) == len(names) and names:
            some = f"{list_of(names, 3)} are asked for, the rows are of {list_of(list(self.rows), 3)}"
            raise DataError.must(
                ".path", f"a file with rows for the {noun} of the transfer set", Phrase(f"none: {some}")
            )
        if share > self.allowed:
            hint = f"Missing: {list_of(missing)}. Let them go on without an answer: {{}}={_up(share)}."
            rule = f"a file with a row for each of the {len(names):,} {noun} of the transfer set"
            got = Phrase(f"{len(names) - len(missing):,} of them")
            raise DataError.must(".path", rule, got, hint, ".allow_missing")
        if missing:
            log.info("%s has no answer for %d %s: %s", self.name, len(missing), noun, list_of(missing))
        known = {key for part in self._parts() for key in self._keys_of(part)}
        if over := [key for key in self.rows if key not in known]:
            log.info("%s has %d row(s) of no sample here: %s", self.name, len(over), list_of(over))

    def untold(self, split: Split) -> str:
        """See `Answering`."""
        rows, names = self._found(split)
        missing = sum(row is None for row in rows)
        if not missing:
            return ""
        how = "" if missing < len(names) or self.source.test else " (teacher.test may name a file of them)"
        return f"{self.name} has no answers for {missing:,} of the {len(names):,} test samples{how}"

    def predictions(
        self, split: Split, augment: Augment | Mix | None, augment_seed: int, view: int, positions: Tensor
    ) -> Iterator[Tensor]:
        """See `Answering`."""
        rows, _ = self._found(split.select(positions))
        nothing = torch.full((len(self.dataset.classes),), float("nan"))
        yield torch.stack([nothing if row is None else row for row in rows])

    def _found(self, split: Split) -> tuple[list[Tensor | None], list[str]]:
        """The row of each sample of a split, and what it is called."""
        testing = split.samples.digest == self.dataset.test.samples.digest
        rows = self.test if testing and self.test is not None else self.rows
        named, names = names_of(split), [str(k) for k in split.index.tolist()]
        if named is not None:
            found = [next((rows[key] for key in keys if key in rows), None) for keys in map(_endings, named)]
            if any(row is not None for row in found) or not any(key.isdecimal() for key in rows):
                return found, list(named)
        if testing and self.test is None and torch.isin(split.index, self.dataset.transfer.index).any():
            # these numbers are those of the transfer set's samples
            return [None] * len(names), names
        return [rows.get(name) for name in names], names

    def _parts(self) -> list[Split]:
        every = self.dataset
        return [part for part in (every.train, every.validation, every.transfer, every.test) if part is not None]

    @staticmethod
    def _keys_of(split: Split) -> set[str]:
        named = {key for name in names_of(split) or () for key in _endings(name)}
        return named | set(map(str, split.index.tolist()))


def _endings(name: str) -> Iterator[str]:
    """What a row may call the sample `train/cat/1.png`: that, `cat/1.png` or `1.png`."""
    parts = name.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))


def _distinct(named: Sequence[str], logits: Tensor, path: str) -> list[str]:
    """What the rows are about: DataError where two of one sample differ."""
    keys = [key.replace("\\", "/").removeprefix("./") for key in named]
    twice = [key for key, times in Counter(keys).items() if times > 1]
    if twice:
        first: dict[str, Tensor] = {}
        differing = [key for key, row in zip(keys, logits, strict=True)
                     if not torch.equal(first.setdefault(key, row), row)]  # fmt: skip
        if differing:
            shown = list_of(list(dict.fromkeys(differing)))
            raise DataError(f"{path} says differing things of {len(set(differing))} sample(s): {shown}.")
        log.info("%s has %d sample(s) twice, alike: %s", path, len(twice), list_of(twice))
    return keys


def _up(share: float) -> str:
    """A share rounded up to what a person types."""
    return f"{min(1.0, share + 0.0005):.3f}"
