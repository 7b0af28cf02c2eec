"""A step computed in parts, where memory is short: the gradients add up to that of the whole batch.

The loss is a mean over samples, so that a part counts by its share of them; its hard term, a mean over labels, is
divided by the labels of the whole batch. What depends on the batch as such, the statistics of batch norm, is the
part's.
"""

from dataclasses import replace

import torch
from torch import Tensor

from kd_cli.data.samples import Batch
from kd_cli.objectives.cross_entropy import labelled_mass
from kd_cli.ranges import whole_number

LEAST = 2  # samples in a part: batch norm needs two


def check_accumulate(parts: int, batch_size: int) -> None:
    """Raise ConfigError unless a batch of this size can be cut into so many parts."""
    most = max(1, batch_size // LEAST)
    remedy = "It is the number of parts in which a batch is computed."
    whole_number(".train.accumulate", parts, 1, most, why=f" with batches of {batch_size}", remedy=remedy)


def parts_of(batch: Batch, number: int) -> list[tuple[Batch, float]]:
    """Return the batch in `number` parts as equal as can be, of two samples at least, each with its share of the
    samples.
    """
    size = len(batch)
    number = max(1, min(number, size // LEAST))
    if number == 1:
        return [(batch, 1.0)]
    mass = labelled_mass(batch)
    parts = []
    for positions in torch.arange(size).tensor_split(number):
        share, first = len(positions) / size, int(positions[0])
        part = batch.rows(slice(first, first + len(positions)))
        parts.append((replace(part, mass=mass * share), share))
    return parts


def rejoined(parts: list[tuple[Tensor, dict[str, Tensor], float]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logits and terms of the whole batch, from those of its parts and their shares."""
    if len(parts) == 1:
        return parts[0][:2]
    logits = torch.cat([part for part, _, _ in parts])
    names = parts[0][1]
    return logits, {name: torch.stack([terms[name] * share for _, terms, share in parts]).sum() for name in names}
