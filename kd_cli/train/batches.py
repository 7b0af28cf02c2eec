"""What a training sees in each epoch, and the seeds that it is drawn by."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from kd_cli.data.augment import Augment
from kd_cli.data.inputs import Inputs
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Answer, Batch, Mixture, Split
from kd_cli.data.texts import of_like_lengths
from kd_cli.data.views import show

# (positions, view, inputs) → float32 logits [n, classes], NaN throughout where the teacher said nothing
Targets = Callable[[Tensor, int, Inputs], Tensor]


def derive(*parts: int | str) -> int:
    """Return a seed out of these parts, the same everywhere, without the correlations of seed + epoch + step."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest())


def weight_of(told: Tensor) -> Tensor:
    """Return what each sample of a batch weighs, mean 1, where the teacher answered for these alone; over the last
    dimension.
    """
    each = told.float()
    return each / each.mean(-1, keepdim=True).clamp(min=torch.finfo(each.dtype).tiny)


class Batches:
    """One epoch after the other: shuffled positions → samples → augmentation → the teacher's logits.

    Everything follows from (seed, epoch), so that two models with the same seed see the same batches. With `views`
    epoch e shows view e mod `views` of the augmentation; without, each epoch shows a view of its own. `untold` says
    that the teacher has no answer for some samples.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        device: torch.device,
        augment: Augment | Mix | None = None,
        augment_seed: int = 0,
        views: int | None = None,
        targets: Targets | None = None,
        class_weights: Tensor | None = None,
        untold: bool = False,
    ) -> None:
        self.split, self.batch_size, self.seed, self.device = split, batch_size, seed, device
        self.class_weights = None if class_weights is None else class_weights.to(device)
        self.augment, self.augment_seed, self.views, self.targets = augment, augment_seed, views, targets
        self.untold = untold
        self._labels = split.labels.to(device)
        self._lengths: Tensor | None = getattr(split.samples, "lengths", None)

    def __len__(self) -> int:
        return len(self._cut(torch.empty(len(self.split))))

    def _cut(self, order: Tensor) -> list[Tensor]:
        """Return batches of `batch_size`; a single sample left over joins the batch before it, for batch norm needs
        two.
        """
        cut = list(order.split(self.batch_size))
        if len(cut) > 1 and len(cut[-1]) == 1:
            cut[-2:] = [torch.cat(cut[-2:])]
        return cut

    def order(self, epoch: int) -> list[Tensor]:
        """Return the positions of each batch of this epoch, int64 on the device."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        order = torch.randperm(len(self.split), generator=generator)
        if self._lengths is not None:
            order = of_like_lengths(order, self._lengths, self.batch_size, generator)
        return self._cut(order.to(self.device))

    def epoch(self, epoch: int, first: int = 0, last: int | None = None) -> Iterator[Batch]:
        """Return the batches of this epoch from the step `first` on, up to `last` where given, all counted from 0."""
        return self.shown(self.order(epoch)[first:last], epoch)

    def shown(self, order: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
        """Yield these batches of positions as the epoch shows them."""
        view = epoch % self.views if self.views else epoch
        seen = show(self.split, order, self.device, self.augment, self.augment_seed, view)
        for positions, shown in zip(order, seen, strict=True):
            inputs, mixture = self.split.samples.spec.to_network(shown.stored), None
            teacher = Answer(self.targets(positions, view, inputs)) if self.targets is not None else None
            if teacher is not None and self.untold:
                told = ~teacher.logits.isnan().any(1)
                teacher = Answer(teacher.logits.nan_to_num(), weight=weight_of(told))
            if shown.partners is not None and shown.share is not None:
                mixture = Mixture(self._labels[shown.partners], shown.share)
            labels = self._labels.index_select(0, positions)
            yield Batch(inputs, labels, teacher, mixture, self.class_weights)
