"""The images of a split as one view shows them: for training, for the teacher's dump and for its check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kd_cli.augment import Augment
from kd_cli.mixing import Mix
from kd_cli.types import Split


@dataclass(frozen=True)
class Shown:
    """A batch of a view; the last two are absent where nothing is mixed."""

    images: Tensor  # uint8 [n, channels, height, width]
    partners: Tensor | None = None  # int64 [n], positions in the split
    share: Tensor | None = None  # float32 [n], of the sample itself in the mixture


def show(
    split: Split, batches: Sequence[Tensor], device: torch.device, augment: Augment | Mix | None, seed: int, view: int
) -> Iterator[Shown]:
    """Each batch of positions on `device`, in the order asked for."""
    index = split.index.to(device)
    if not isinstance(augment, Mix):
        for positions, pixels in zip(batches, split.images.stream(batches, device), strict=True):
            if augment is not None:
                pixels = augment(pixels, index[positions.to(device)], seed, view)
            yield Shown(pixels)
        return
    partners, shares, place = augment.draw(index, seed, view)
    pairs = [torch.cat([own, partners[own]]) for own in (positions.to(device) for positions in batches)]
    for pair, pixels in zip(pairs, split.images.stream(pairs, device), strict=True):
        if augment.inner is not None:
            pixels = augment.inner(pixels, index[pair], seed, view)
        (own, others), (images, partner_images) = pair.chunk(2), pixels.chunk(2)
        mixed, share = augment.blend(images, partner_images, shares[own], place[:, own])
        yield Shown(mixed, others, share)
