"""A network's logits over a split: for the dump, for validation and for every evaluation."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kd_cli.data.augment import Augment
from kd_cli.data.inputs import count, joined
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Split
from kd_cli.data.spec import Spec
from kd_cli.data.views import show

EVALUATION_BATCH = 256
LARGEST_BATCH = 1 << 26  # numbers of a batch's samples: 256 images of up to 295 × 295 in colour


def evaluation_batch(spec: Spec) -> int:
    """Return how many samples are evaluated at a time: fewer where they are large."""
    return max(1, min(EVALUATION_BATCH, LARGEST_BATCH // spec.numbers))


def predict(
    model: nn.Module,
    split: Split,
    device: torch.device,
    augment: Augment | Mix | None = None,
    augment_seed: int = 0,
    view: int = 0,
    positions: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Return float32 logits `[N, classes]` on the CPU, in the order of the split (or of `positions`), in eval mode."""
    return torch.cat(list(predictions(model, split, device, augment, augment_seed, view, positions, batch_size)))


def errors_on(model: nn.Module, split: Split, device: torch.device) -> int:
    """Return how many samples of a labelled split the network classifies wrongly."""
    return int((predict(model, split, device).argmax(1) != split.labels).sum())


@torch.inference_mode()
def predictions(
    model: nn.Module,
    split: Split,
    device: torch.device,
    augment: Augment | Mix | None = None,
    augment_seed: int = 0,
    view: int = 0,
    positions: Tensor | None = None,
    batch_size: int | None = None,
) -> Iterator[Tensor]:
    """Yield what `predict` gives, batch by batch.

    Computed in float32, in batches of one size: a short last batch is padded, because other kernels may serve other
    sizes and give other last bits.
    """
    spec = split.samples.spec
    batch_size = batch_size or evaluation_batch(spec)
    training = model.training
    model.to(device).eval()
    chosen = torch.arange(len(split)) if positions is None else positions
    batches = chosen.split(batch_size)
    try:
        for shown in show(split, batches, device, augment, augment_seed, view):
            inputs = spec.to_network(shown.stored)
            n = count(inputs)
            if n < batch_size and len(chosen) > batch_size:
                inputs = joined([inputs, spec.blank(batch_size - n, device)])
            yield model(inputs)[:n].float().cpu()
    finally:
        model.train(training)
