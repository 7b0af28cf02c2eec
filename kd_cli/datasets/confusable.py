"""A made-up task of many classes in confusable groups.

The groups differ plainly, the classes of a group faintly and along directions that belong to this group alone: to name
the group a network must know one small thing, to name the class as many others as there are groups. One that is too
narrow for all of them confuses the classes of a group, and one of the same size that cares for a single group need not.
"""

import torch
from torch import Tensor

from kd_cli import ranges
from kd_cli.data.resident import Resident
from kd_cli.data.samples import Dataset, Split
from kd_cli.data.splits import assemble, whole
from kd_cli.errors import must

SIDE = 12  # pixels
GROUP, CLASS, NOISE = 14.0, 4.0, 20.0  # standard deviations of what a pixel owes to group, class and chance, of 255
FACTORS = 8  # directions in which the classes of a group differ
TRAIN, TEST = 200, 50  # samples of each class
MOST_CLASSES = 1_000  # of which the samples take 0.1 GB while they are drawn


def confusable(groups: int = 10, classes_each: int = 10, validation: float = 0, seed: int = 0) -> Dataset:
    """Grey images of 12 × 12. They are the same for every `seed`, which governs the validation split alone."""
    for key, value in (("groups", groups), ("classes_each", classes_each)):
        ranges.whole_number(f".dataset.{key}", value, 2)
    if groups * classes_each > MOST_CLASSES:
        raise must(".dataset.groups × dataset.classes_each", f"at most {MOST_CLASSES:,}", groups * classes_each)
    draw = torch.Generator().manual_seed(0)
    pixels = SIDE * SIDE
    templates = GROUP * torch.randn(groups, 1, pixels, generator=draw)
    codes = torch.randn(groups, classes_each, FACTORS, generator=draw)
    directions = torch.randn(groups, FACTORS, pixels, generator=draw)
    means = (templates + CLASS * codes @ directions / FACTORS**0.5).flatten(0, 1)
    names = [f"{group}-{k}" for group in range(groups) for k in range(classes_each)]
    train, test = (_samples(means, count, draw) for count in (TRAIN, TEST))
    return assemble("confusable", train, test, names, (1, SIDE, SIDE), validation, seed)


def _samples(means: Tensor, count: int, draw: torch.Generator) -> Split:
    labels = torch.arange(len(means)).repeat(count)
    values = 127.5 + means[labels] + NOISE * torch.randn(len(labels), means.shape[1], generator=draw)
    images = values.round().clamp(0, 255).to(torch.uint8).view(-1, 1, SIDE, SIDE)
    return whole(Resident(images), labels)
