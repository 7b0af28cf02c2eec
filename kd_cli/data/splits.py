"""How samples are set apart, and how a data set is put together from its parts."""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kd_cli import ranges
from kd_cli.data.samples import UNLABELLED, Dataset, Samples, Split
from kd_cli.data.spec import Spec, image_spec
from kd_cli.errors import DataError, must
from kd_cli.progress import log
from kd_cli.ranges import is_number, is_whole, number

LARGEST_IMAGE = 1 << 22  # numbers: an evaluation's batch of 256 then takes a gigabyte
MOST_SAMPLES = 1 << 24  # of a file or of what is made up: their labels and numbers then take a quarter of one
LOOKED_AT, A_SET = 64, 3  # images of a split, evenly spaced: as many, and where there are no fewer
NEARLY_CONSTANT = 2.0  # standard deviation of their pixels, of 255: 10-bit values taken for 16-bit ones have 1


def same_form(name: str) -> str:
    """Return a name in the one form of Unicode in which class names are compared: macOS writes `é`
    as two characters.
    """
    return unicodedata.normalize("NFC", name)


def whole(samples: Samples, labels: Tensor) -> Split:
    """Return a split of all these samples, each named by its position."""
    return Split(samples, labels.to(torch.int64), torch.arange(len(labels)))


def stratified(labels: Tensor, count: int, seed: int) -> Tensor:
    """Positions of `count` samples with every class in its share (largest remainder first), sorted."""
    generator = torch.Generator().manual_seed(seed)
    classes, sizes = labels.unique(return_counts=True)
    exact = sizes.double() * count / len(labels)
    take = exact.floor().long()
    short = count - int(take.sum())
    take[(take - exact).argsort(stable=True)[:short]] += 1
    chosen = []
    for label, n in zip(classes, take, strict=True):
        members = (labels == label).nonzero()[:, 0]
        chosen.append(members[torch.randperm(len(members), generator=generator)[:n]])
    return torch.cat(chosen).sort().values


def keep_classes(key: str, value: Any, rule: str, before: Tensor, after: Tensor, classes: Sequence[str]) -> None:
    """Raise ConfigError for the value of `key` where some class of the labels `before` has no sample `after`."""
    if lost := sorted(set(before.tolist()) - set(after.tolist()) - {UNLABELLED}):
        names = [classes[k] if k < len(classes) else str(k) for k in lost[:10]]
        raise must(key, rule, value, f"Left empty: {', '.join(names)}{', …' if len(lost) > 10 else ''}.")


def carve(split: Split, validation: float, seed: int, classes: Sequence[str] = ()) -> tuple[Split, Split | None]:
    """Return the rest and a stratified validation split: a fraction below 1, a count from 1 on, none for 0. Every class
    keeps a sample in the rest; `classes` names them where one would not.
    """
    key = ".dataset.validation"
    rule = f"a fraction below 1, a count below {len(split)} (the size of the training split), or 0"
    if not is_number(validation):
        raise must(key, rule, validation)
    if validation == 0:
        return split, None
    count = round(validation * len(split)) if 0 < validation < 1 else validation
    if count != int(count) or not 1 <= count < len(split):
        raise must(key, rule, validation)
    held_out = stratified(split.labels, int(count), seed)
    rest = torch.ones(len(split), dtype=torch.bool)
    rest[held_out] = False
    one = "an image" if split.samples.spec.kind == "image" else "a sample"
    rule = f"small enough to leave every class {one}"
    keep_classes(key, validation, rule, split.labels, split.labels[rest], classes)
    return split.select(rest.nonzero()[:, 0]), split.select(held_out)


def with_labels(split: Split, labels: str | float, seed: int, classes: Sequence[str] = ()) -> Split:
    """Return a transfer set with all, no or a stratified fraction of its labels, some of every class; the others become
    −1.
    """
    if labels == "all":
        return split
    if labels == "none":
        return split.with_labels(torch.full_like(split.labels, UNLABELLED))
    if not is_number(labels) or not 0 < labels < 1:
        raise must("transfer.labels", "all, none or a fraction between 0 and 1", labels)
    known = (split.labels != UNLABELLED).nonzero()[:, 0]
    if len(known) == 0:
        raise must("transfer.labels", "none for a transfer set that holds no labels", labels)
    kept = known[stratified(split.labels[known], max(1, round(labels * len(known))), seed)]
    partial = torch.full_like(split.labels, UNLABELLED)
    partial[kept] = split.labels[kept]
    keep_classes("transfer.labels", labels, "large enough for a label of every class", split.labels, partial, classes)
    return split.with_labels(partial)


def without_classes(split: Split, key: str, wanted: Sequence[Any], classes: Sequence[str], omit: bool) -> Split:
    """Return a split less the samples of the `wanted` classes (names or numbers); with `omit` false these alone."""
    if split.labelled < len(split):
        raise must(key, "null for a transfer set with unlabelled samples, whose classes nobody knows", list(wanted))
    hit = torch.isin(split.labels, torch.tensor(class_numbers(key, wanted, classes), dtype=torch.int64))
    kept = (~hit if omit else hit).nonzero()[:, 0]
    if len(kept) == 0:
        raise must(key, "a list that leaves some samples in the transfer set", list(wanted))
    return split.select(kept)


def class_numbers(key: str, wanted: Sequence[Any], classes: Sequence[str]) -> list[int]:
    """Return the numbers of the `wanted` classes (names or numbers), sorted; ConfigError for what is neither."""
    chosen = set()
    for each in wanted:
        known = is_whole(each, 0) and each < len(classes)
        name = same_form(str(each))
        if name not in classes and not known:
            shown = ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")
            raise must(key, f"a list of classes ({shown}) or their numbers", each)
        chosen.add(classes.index(name) if name in classes else int(each))
    return sorted(chosen)


def fraction_of(split: Split, fraction: float, seed: int, classes: Sequence[str]) -> Split:
    """Return a stratified share of a split; unlabelled samples are a stratum of their own."""
    number("transfer.fraction", fraction, above=0, at_most=1)
    if fraction == 1:
        return split
    part = split.select(stratified(split.labels, round(fraction * len(split)), seed))
    rule = "large enough for a sample of every class"
    keep_classes("transfer.fraction", fraction, rule, split.labels, part.labels, classes)
    if len(part) == 0:
        raise must("transfer.fraction", "large enough for a sample", fraction)
    return part


def fingerprint(split: Split) -> str:
    """Digest of a split's samples, of what they are, and of its labels."""
    spec = split.samples.spec
    about = "" if spec.kind == "image" else json.dumps(spec.stored())  # an image's digest holds its shape
    return hashlib.sha256(f"{split.samples.digest}{about}".encode() + split.labels.numpy().tobytes()).hexdigest()


def assemble(
    name: str,
    train: Split,
    test: Split,
    classes: Sequence[str],
    spec: Spec | Sequence[int],
    validation: Split | float,
    seed: int,
    transfer: Split | None = None,
) -> Dataset:
    """Return the data set of these parts; without a transfer set of its own, the training split serves as one. A shape
    `[channels, height, width]` in place of a Spec is that of images.
    """
    spec = spec if isinstance(spec, Spec) else image_spec(spec)
    ranges.whole_number(".dataset.seed", seed, 0)
    for part, split in (("training", train), ("test", test)):
        if len(split) == 0:
            raise DataError(f"{name} has no {part} {spec.noun}.")
        if split.labels.min() < 0 or split.labels.max() >= len(classes):
            wrong = int(split.labels.min()) if split.labels.min() < 0 else int(split.labels.max())
            raise DataError(f"{name}: a label in the {part} split is {wrong}, outside 0 … {len(classes) - 1}.")
    names = tuple(map(same_form, classes))
    if twice := [each for each, times in Counter(names).items() if times > 1]:
        raise DataError(f"{name} must have classes of different names, got several called {', '.join(twice[:10])}.")
    held_out: Split | None
    if isinstance(validation, Split):
        held_out = validation
    else:
        train, held_out = carve(train, validation, seed, names)
    parts = [split for split in (train, held_out, transfer, test) if split is not None]
    digest = hashlib.sha256("".join(fingerprint(split) for split in parts).encode()).hexdigest()
    shown = {"training": train, "transfer": transfer, "validation": held_out, "test": test}
    for part, its in shown.items():
        if its is not None:
            _look_at(name, part, its)
    return Dataset(name, train, held_out, transfer or train, test, names, spec, digest)


def _look_at(name: str, part: str, split: Split) -> None:
    """Refuses samples that are not what their Spec says. Warns of images that are all nearly of one shade: mostly they
    were scaled by another rule than their maker's.
    """
    looked_at = torch.linspace(0, len(split) - 1, min(LOOKED_AT, len(split))).long()
    seen, spec = next(split.samples.stream([looked_at], torch.device("cpu"))), split.samples.spec
    spec.check(seen)
    spec.check_values(seen)
    if spec.kind != "image":
        return
    assert isinstance(seen, Tensor)
    pixels = seen.float()
    if len(looked_at) >= A_SET and float(pixels.std()) < NEARLY_CONSTANT:
        log.warning(
            "%s: the %s images hold hardly anything but one shade: their pixels are %.1f ± %.1f of 255.",
            *(name, part, float(pixels.mean()), float(pixels.std())),
        )
