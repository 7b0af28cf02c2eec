"""The training examples of a specialist: half of them of its own classes (Hinton et al. 2015, section 5.2)."""

import math

import torch
from torch import Tensor

from kd_cli.data.augment import Augment
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Split
from kd_cli.train.batches import Batches, derive


def relabelled(split: Split, own: Tensor, classes: int) -> Split:
    """Return a labelled split of `classes` classes as the specialist for those in `own` (int64 `[C]`) sees it: they are
    0 … C − 1, and every other is C, the dustbin.
    """
    place = torch.full((classes,), len(own))
    place[own] = torch.arange(len(own))
    return split.with_labels(place[split.labels])


class HalfOwn(Batches):
    """Of both kinds an epoch has as many samples as the smaller has, drawn anew for each epoch, from (seed, epoch)."""

    def __init__(
        self,
        split: Split,
        dustbin: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        augment: Augment | Mix | None,
    ) -> None:
        super().__init__(split, batch_size, seed, device, augment, seed)
        self.kinds = [(split.labels != dustbin).nonzero()[:, 0], (split.labels == dustbin).nonzero()[:, 0]]
        self.each = min(map(len, self.kinds))

    @property
    def over_sampling(self) -> float:
        """Logarithm of how much more often a sample of an own class is drawn than one of another."""
        own, others = map(len, self.kinds)
        return math.log(others / own)

    def __len__(self) -> int:
        return len(self._cut(torch.empty(2 * self.each)))

    def order(self, epoch: int) -> list[Tensor]:
        """Return the positions of each batch of this epoch, int64 on the device."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        drawn = [kind[torch.randperm(len(kind), generator=generator)[: self.each]] for kind in self.kinds]
        return self._cut(torch.cat(drawn)[torch.randperm(2 * self.each, generator=generator)].to(self.device))
