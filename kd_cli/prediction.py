"""A network's logits over a split: for the dump, for validation and for every evaluation."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kd_cli.augment import Augment
from kd_cli.mixing import Mix
from kd_cli.types import Split
from kd_cli.views import show

EVALUATION_BATCH = 256


def predict(
    model: nn.Module,
    split: Split,
    device: torch.device,
    augment: Augment | Mix | None = None,
    augment_seed: int = 0,
    view: int = 0,
    positions: Tensor | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> Tensor:
    """Float32 logits `[N, classes]` on the CPU, in the order of the split (or of `positions`), in eval mode."""
    return torch.cat(list(predictions(model, split, device, augment, augment_seed, view, positions, batch_size)))


@torch.inference_mode()
def predictions(
    model: nn.Module,
    split: Split,
    device: torch.device,
    augment: Augment | Mix | None = None,
    augment_seed: int = 0,
    view: int = 0,
    positions: Tensor | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> Iterator[Tensor]:
    """What `predict` gives, batch by batch.

    Computed in float32, in batches of one size: a short last batch is padded, because other kernels may serve other
    sizes and give other last bits.
    """
    training = model.training
    model.to(device).eval()
    chosen = torch.arange(len(split)) if positions is None else positions
    batches = chosen.split(batch_size)
    try:
        for shown in show(split, batches, device, augment, augment_seed, view):
            pixels, n = shown.images, len(shown.images)
            if n < batch_size and len(chosen) > batch_size:
                pixels = torch.cat([pixels, pixels.new_zeros(batch_size - n, *pixels.shape[1:])])
            yield model(pixels.float().div_(255))[:n].float().cpu()
    finally:
        model.train(training)
