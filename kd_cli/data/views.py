"""The images of a split as one view shows them: for training, for the teacher's dump and for its check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kd_cli.data.augment import Augment
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Split, no_images
from kd_cli.errors import must


@dataclass(frozen=True)
class Shown:
    """A batch of a view; the last two are absent where nothing is mixed."""

    images: Tensor  # uint8 [n, channels, height, width]
    partners: Tensor | None = None  # int64 [n], positions in the split
    share: Tensor | None = None  # float32 [n], of the sample itself in the mixture


def show(
    split: Split, batches: Sequence[Tensor], device: torch.device, augment: Augment | Mix | None, seed: int, view: int
) -> Iterator[Shown]:
    """Each batch of positions on `device`, in the order asked for; a refusal where images are no bytes."""
    index = split.index.to(device)
    if not isinstance(augment, Mix):
        for positions, pixels in zip(batches, split.images.stream(batches, device), strict=True):
            check(pixels)
            if augment is not None:
                pixels = check(augment(pixels, index[positions.to(device)], seed, view), augment)
            yield Shown(pixels)
        return
    partners, shares, place = augment.draw(index, seed, view)
    pairs = [torch.cat([own, partners[own]]) for own in (positions.to(device) for positions in batches)]
    for pair, pixels in zip(pairs, split.images.stream(pairs, device), strict=True):
        check(pixels)
        if augment.inner is not None:
            pixels = check(augment.inner(pixels, index[pair], seed, view), augment.inner)
        (own, others), (images, partner_images) = pair.chunk(2), pixels.chunk(2)
        mixed, share = augment.blend(images, partner_images, shares[own], place[:, own])
        yield Shown(mixed, others, share)


def check(images: Tensor, augment: Augment | None = None) -> Tensor:
    """The images, as a data set or an augmentation gave them; a refusal by its name unless they are bytes."""
    if images.dtype == torch.uint8 and images.ndim == 4:
        return images
    found = f"{str(images.dtype).removeprefix('torch.')} of {list(images.shape[1:])}"
    if augment is None:
        raise no_images(found)
    rule = "one that gives uint8 images [n, channels, height, width], as it was given"
    raise must(".augment", rule, f"{getattr(augment, '__name__', type(augment).__name__)}: {found}")
