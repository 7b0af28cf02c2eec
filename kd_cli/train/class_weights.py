"""How much each class counts in the hard term: alike for teacher, student and baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kd_cli.data.samples import UNLABELLED, Split
from kd_cli.errors import did_you_mean, must
from kd_cli.ranges import is_number

KEY, BALANCED = ".train.class_weights", "balanced"


def check_class_weights(asked: Any) -> None:
    """Raise ConfigError for what no data set could take."""
    if asked is None or asked == BALANCED:
        return
    numbers = list(asked.values()) if isinstance(asked, Mapping) else asked
    if isinstance(numbers, str) or not isinstance(numbers, Sequence) or not all(map(_is_weight, numbers)):
        hint = "Write '{}=[1,2,1]', or name some of them: '{}={cat: 2}'."
        raise must(KEY, f"null, {BALANCED}, or a number ≥ 0 for each class", asked, hint, KEY, KEY)
    if not any(numbers):
        raise must(KEY, "> 0 for one class at least", asked)


def class_weights(asked: Any, split: Split, classes: Sequence[str]) -> Tensor | None:
    """Return float32 weights `[classes]` for training on `split`, or None where all count alike.

    `balanced` is N / (K · n) for each of the K classes that have labels, n of N labels. A mapping names classes; those
    that it leaves out weigh 1.
    """
    if asked is None:
        return None
    if asked == BALANCED:
        counts = split.labels[split.labels != UNLABELLED].bincount(minlength=len(classes)).float()
        there = counts > 0
        even = counts.sum() / (there.sum().clamp(min=1) * counts.clamp(min=1))
        return torch.where(there, even, torch.zeros_like(even)) if there.any() else None
    if isinstance(asked, Mapping):
        given = {str(name): float(weight) for name, weight in asked.items()}
        if unknown := [name for name in given if name not in classes]:
            raise must(KEY, f"of classes of the data set ({_few(classes)})", unknown, did_you_mean(unknown[0], classes))
        return torch.tensor([given.get(name, 1.0) for name in classes])
    if len(asked) != len(classes):
        raise must(KEY, f"a list of {len(classes)} numbers, one for each class ({_few(classes)})", list(asked))
    return torch.tensor([float(weight) for weight in asked])


def _is_weight(value: Any) -> bool:
    return is_number(value) and value >= 0


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
