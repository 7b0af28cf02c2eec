"""The samples of a split as one view shows them: for training, for the teacher's dump and for its check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kd_cli.data.augment import Augment, augment_name
from kd_cli.data.inputs import Inputs
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Split
from kd_cli.data.spec import Spec
from kd_cli.errors import Phrase, must


@dataclass(frozen=True)
class Shown:
    """A batch of a view; the last two are absent where nothing is mixed."""

    stored: Inputs  # as the data set holds its samples
    partners: Tensor | None = None  # int64 [n], positions in the split
    share: Tensor | None = None  # float32 [n], of the sample itself in the mixture


def show(
    split: Split, batches: Sequence[Tensor], device: torch.device, augment: Augment | Mix | None, seed: int, view: int
) -> Iterator[Shown]:
    """Yield each batch of positions on `device`, in the order asked for; a refusal where samples are not what their
    Spec says.
    """
    index, spec = split.index.to(device), split.samples.spec
    if not isinstance(augment, Mix):
        for positions, stored in zip(batches, split.samples.stream(batches, device), strict=True):
            _expect(stored, spec)
            if augment is not None:
                stored = augmented(augment, stored, index[positions.to(device)], seed, view, spec)
            yield Shown(stored)
        return
    partners, shares, place = augment.draw(index, seed, view)
    pairs = [torch.cat([own, partners[own]]) for own in (positions.to(device) for positions in batches)]
    for pair, pixels in zip(pairs, split.samples.stream(pairs, device), strict=True):
        _expect(pixels, spec)
        if augment.inner is not None:
            pixels = augmented(augment.inner, pixels, index[pair], seed, view, spec)
        assert isinstance(pixels, Tensor)  # mixtures are of images
        (own, others), (images, partner_images) = pair.chunk(2), pixels.chunk(2)
        mixed, share = augment.blend(images, partner_images, shares[own], place[:, own])
        yield Shown(mixed, others, share)


def _expect(stored: Inputs, spec: Spec) -> None:
    """DataError for samples that are not what those were that the data set showed when it was read."""
    if found := spec.misfit(stored):
        error = spec.refused(found)
        error.key = "dataset"  # complete: it is no part of the student or teacher that sees them
        raise error


def augmented(augment: Augment, stored: Inputs, index: Tensor, seed: int, view: int, spec: Spec) -> Inputs:
    """Return the samples as an augmentation gives them; a refusal by its name unless it gives what it was given."""
    made: Inputs = augment(stored, index, seed, view)
    if found := spec.misfit(made):
        what = "uint8 images [n, channels, height, width]" if spec.kind == "image" else f"{spec}"
        raise must(
            ".augment", f"one that gives {what}, as it was given", Phrase(f"{found} from {augment_name(augment)}")
        )
    return made
