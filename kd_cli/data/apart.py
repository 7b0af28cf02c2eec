"""The splits of a data set of files: those that its folders have, and what is missing set apart from training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kd_cli import ranges
from kd_cli.data.duplicates import Files, check_rule, without_copies
from kd_cli.data.grouping import held_out, linked
from kd_cli.data.labelling import named_groups, pattern_of
from kd_cli.data.layout import PARTS, listed
from kd_cli.data.samples import Split
from kd_cli.data.splits import keep_classes
from kd_cli.errors import DataError, must
from kd_cli.progress import log
from kd_cli.ranges import is_number

GROUP = ".dataset.group"
A_FIFTH = 0.2


@dataclass(frozen=True)
class Apart:
    """What is set apart where the folders have no such split: a fraction below 1 of the training files that there are,
    or their number. `test` None is a fifth; without a test split there is none to judge on.

    `group` is a pattern: files in whose names its groups hold the same stay together, and so do those of the same
    bytes. `duplicates` says what is done about copies that lie in two splits already.
    """

    test: float | None = None
    validation: float = 0
    seed: int = 0
    group: str | None = None
    duplicates: str = "refuse"

    def check(self) -> None:
        """Raise ConfigError for what no data set could be split by."""
        ranges.whole_number(".dataset.seed", self.seed, 0)
        check_rule(self.duplicates)
        for part, amount, none in (("test", self.test, None), ("validation", self.validation, 0)):
            if amount != none and not (is_number(amount) and amount > 0):
                spelt = "null" if none is None else none
                raise must(f".dataset.{part}", f"a fraction below 1, a count, or {spelt}", amount)
        if self.group is not None:
            pattern_of(self.group, GROUP)

    def split(self, parts: Mapping[str, Split], classes: Sequence[str]) -> tuple[dict[str, Split], list[str]]:
        """Return every part of a data set whose samples are `Files`, and what is to be said of how it was split. Raises
        ConfigError and DataError.
        """
        made, remarks = without_copies(parts, self.duplicates, classes)
        if self.group is not None:
            _check_groups({part: _groups(split, self.group) for part, split in made.items()}, self.group)
        found, apart = len(made["train"]), list[str]()
        for part, amount in (("test", A_FIFTH if self.test is None else self.test), ("validation", self.validation)):
            key = f".dataset.{part}"
            if part in parts:
                if amount and not (part == "test" and self.test is None):
                    log.warning("%s=%s is not used: there is a %s split already", key.lstrip("."), amount, part)
                continue
            if not amount:
                continue
            count = _count(key, amount, found, len(made["train"]))
            made["train"], made[part] = self._carved(made["train"], count, key, amount, classes)
            apart.append(part)
        if apart:
            how = "" if self.group is None else " and group"
            remarks.append(f"{' and '.join(apart)} set apart by seed {self.seed}{how}")
        return {part: made[part] for part in PARTS if part in made}, remarks

    def _carved(self, split: Split, count: int, key: str, amount: float, classes: Sequence[str]) -> tuple[Split, Split]:
        """The rest, and what is set apart."""
        files: Any = split.samples
        groups = linked(files.sha, *([] if self.group is None else [_groups(split, self.group)]))
        chosen = held_out(split.labels, groups, count, self.seed)
        rest = torch.ones(len(split), dtype=torch.bool)
        rest[chosen] = False
        if not len(chosen) or not rest.any():
            raise must(key, f"a share that some of the {len(set(groups))} groups of files amount to", amount)
        one = "an image" if split.samples.spec.kind == "image" else "a sample"
        rule = f"small enough to leave every class {one}"
        keep_classes(key, amount, rule, split.labels, split.labels[rest], classes)
        return split.select(rest.nonzero()[:, 0]), split.select(chosen)


def _count(key: str, amount: float, found: int, left: int) -> int:
    """How many files an amount is, of so many as were found, and of which so many are left."""
    count = round(amount * found) if amount < 1 else amount
    if count != int(count) or not 1 <= count < left:
        raise must(key, f"a fraction below 1, or a count below {left} (the size of the training split)", amount)
    return int(count)


def _groups(split: Split, pattern: str) -> list[str]:
    files: Files | Any = split.samples
    return named_groups(files.names, pattern, GROUP)


def _check_groups(groups: Mapping[str, list[str]], pattern: str) -> None:
    """DataError for a group that lies in two of the splits as they are, one of which is judged or selected on."""
    for part, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        if both := sorted(set(groups.get(part, ())) & set(groups.get(other, ()))):
            hint = f"In {part} and {other} are: {listed(both)}. Move them, or leave out {{}}."
            raise DataError.must(GROUP, "one whose groups lie in one split each", pattern, hint, GROUP)
