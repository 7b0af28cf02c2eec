"""Samples that belong together, and a share of them set apart so that what belongs together stays together."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from kd_cli.data.splits import stratified


def linked(*groupings: Sequence[str]) -> list[int]:
    """Return the number of each sample's group, where those belong together that any of the groupings puts together,
    directly or through others.
    """
    leads = list(range(len(groupings[0])))

    def lead(sample: int) -> int:
        while leads[sample] != sample:
            leads[sample] = leads[leads[sample]]
            sample = leads[sample]
        return sample

    for grouping in groupings:
        first: dict[str, int] = {}
        for sample, group in enumerate(grouping):
            one, other = lead(first.setdefault(group, sample)), lead(sample)
            leads[max(one, other)] = min(one, other)
    return [lead(sample) for sample in range(len(leads))]


def held_out(labels: Tensor, groups: Sequence[int], count: int, seed: int) -> Tensor:
    """Positions of about `count` samples, sorted: of every class its share, of a group all or none. Exactly `count`
    where each sample is a group of its own.

    Groups come in an order drawn by `seed`; one is taken if that brings the classes nearer to their shares.
    """
    if len(set(groups)) == len(groups):
        return stratified(labels, count, seed)
    members: dict[int, list[int]] = {}
    for sample, group in enumerate(groups):
        members.setdefault(group, []).append(sample)
    classes = labels.tolist()
    sizes = Counter(classes)
    lacking = {label: size * count / len(labels) for label, size in sizes.items()}
    taken: list[int] = []
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed)).tolist()
    each = list(members.values())
    for samples in (each[k] for k in order):
        brought = Counter(classes[sample] for sample in samples)
        # by how much the squared distance to the shares grows, a rare class counting as much as a common one
        if sum(n * (n - 2 * lacking[label]) / sizes[label] for label, n in brought.items()) >= 0:
            continue
        taken += samples
        for label, n in brought.items():
            lacking[label] -= n
    return torch.tensor(sorted(taken), dtype=torch.int64)
