"""The same bytes in two splits or under two labels: what real data sets have more of than their makers know."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch

from kd_cli.data.layout import listed
from kd_cli.data.samples import Samples, Split
from kd_cli.errors import DataError, must
from kd_cli.progress import log

KEY = ".dataset.duplicates"
BELOW = "\n  "
RULES = ("refuse", "allow", "drop")


class Files(Samples, Protocol):
    """Samples that are files: each has a name below the root, with `/`, and the SHA-256 of its bytes."""

    names: list[str]
    sha: list[str]


def check_rule(rule: Any) -> None:
    """Raise ConfigError for what is no rule."""
    if rule not in RULES:
        raise must(KEY, f"one of {', '.join(RULES)}", rule)


def without_copies(parts: Mapping[str, Split], rule: str, classes: Sequence[str]) -> tuple[dict[str, Split], list[str]]:
    """Return the parts, and what is to be said of them: what lies twice, in two splits or under two labels.

    Across splits that is refused; `allow` only says it, `drop` keeps the copies that are tested on, of others those
    that are selected on. A transfer set may share samples with the training split.
    """
    remarks = []
    if torn := _under_two_labels(parts, classes):
        remarks.append(f"{len(torn)} with the same bytes as one of another class")
        log.warning("%d file(s) lie under two labels: %s", len(torn), listed(torn))
    made = dict(parts)
    for pair in (("test", "validation"), ("test", "train"), ("test", "transfer"), ("validation", "train"),
                 ("validation", "transfer")):  # fmt: skip
        if any(part not in made for part in pair):
            continue
        kept, other = (made[part] for part in pair)
        there = dict(zip(_files(kept).sha, _files(kept).names, strict=True))
        again = [k for k, sha in enumerate(_files(other).sha) if sha in there]
        if not again:
            continue
        both = [f"{_files(other).names[k]} = {there[_files(other).sha[k]]}" for k in again]
        said = f"{len(again)} file(s) of the {pair[1]} split lie in the {pair[0]} split too"
        if rule == "refuse":
            hint = f"Remove them, or leave them out of {pair[1]}: {{}}=drop. With {{}}=allow they stay."
            raise DataError(f"{said}:{BELOW}{listed(both, BELOW)}\n", hint, KEY, KEY)
        if rule == "drop":
            rest = torch.ones(len(other), dtype=torch.bool)
            rest[again] = False
            made[pair[1]] = other.select(rest.nonzero()[:, 0])
        remarks.append(f"{said}{', and are left out' if rule == 'drop' else ''}")
        log.warning("%s: %s", remarks[-1], listed(both))
    _check_left(parts, made, classes)
    return made, remarks


def _check_left(before: Mapping[str, Split], after: Mapping[str, Split], classes: Sequence[str]) -> None:
    for part, split in after.items():
        lost = set(before[part].labels.tolist()) - set(split.labels.tolist())
        if len(split) == 0 or (part == "train" and lost):
            names = ", ".join(classes[k] for k in sorted(lost) if k >= 0)
            raise must(KEY, f"allow where copies are all that the {part} split has of some class", "drop", f"{names}.")


def _under_two_labels(parts: Mapping[str, Split], classes: Sequence[str]) -> list[str]:
    """A line for each file with the bytes of an earlier one of another class."""
    first: dict[str, tuple[str, int]] = {}
    found = []
    for split in parts.values():
        files = _files(split)
        for sha, name, label in zip(files.sha, files.names, split.labels.tolist(), strict=True):
            if label < 0:
                continue
            other, its = first.setdefault(sha, (name, label))
            if its != label:
                found.append(f"{name} ({classes[label]}) = {other} ({classes[its]})")
    return found


def _files(split: Split) -> Files:
    return cast(Files, split.samples)
