"""Running statistics of batch norm: whether they have settled, and how they are taken anew.

Batch norm learns with the statistics of each batch and is evaluated with a running mean of them, which a short training
or a small momentum leaves far behind (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm").
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from kd_cli.data.samples import UNLABELLED, Batch
from kd_cli.device import reseed
from kd_cli.train.batches import Batches, derive

COMPARED, TAKEN = 2_048, 10_000  # samples
MATERIAL = 0.1  # nats a sample
NOISE = 4.0  # standard errors


def settle(model: nn.Module, batches: Batches, epoch: int, mode: str) -> dict[str, Any] | None:
    """Compare the running statistics of the trained `model` with those of a pass in training mode over samples of
    `epoch`, as they were shown, and takes them anew with `recomputed`, or with `auto` where they have not settled.
    Returns what the manifest says of it, or None for a network without running statistics.

    Both are judged in eval mode, by the cross-entropy with the labels (the teacher's answer where there are none): what
    dropout does in training is in both alike. They have settled unless those as trained are worse by more than 0.1 nats
    and four standard errors of the paired difference. No other buffer is touched.
    """
    model.train()
    norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm) and _runs(norm)]
    model.eval()
    if not norms:
        return None
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    as_trained = _figures(model, batches, epoch)
    _take(model, norms, batches, epoch, COMPARED)
    anew = _figures(model, batches, epoch)
    settled = not _worse(as_trained, anew)
    recomputed = mode == "recomputed" or (mode == "auto" and not settled)
    if recomputed:
        _take(model, norms, batches, epoch, TAKEN)
        own = {id(buffer) for norm in norms for buffer in norm.buffers(recurse=False)}
        before = {name: value for name, value in before.items() if id(model.get_buffer(name)) not in own}
    with torch.no_grad():
        for name, value in before.items():
            model.get_buffer(name).copy_(value)
    return {
        "settled": settled,
        "used": "recomputed" if recomputed else "as_trained",
        "samples": len(anew),
        "errors_as_trained": int(as_trained[:, 1].sum()),
        "errors_recomputed": int(anew[:, 1].sum()),
    }


def describe(about: dict[str, Any]) -> str | None:
    """Return what the log says, if it is worth a line."""
    if about["settled"] and about["used"] == "as_trained":
        return None
    state = "had settled" if about["settled"] else "had not settled"
    made = f"{about['errors_as_trained']} errors on {about['samples']} training samples"
    kept = "taken anew" if about["used"] == "recomputed" else "kept as trained"
    return f"batch statistics {state} ({made}, with new ones {about['errors_recomputed']}): {kept}"


def _runs(norm: _BatchNorm) -> bool:
    """Return whether it keeps running statistics: one that a network holds in eval mode while it learns keeps them
    fixed.
    """
    return norm.training and norm.track_running_stats and norm.running_mean is not None


@torch.no_grad()
def _figures(model: nn.Module, batches: Batches, epoch: int) -> Tensor:
    """Return the cross-entropy in nats and error (0 or 1) of each sample in eval mode, float64 `[n, 2]` on the CPU."""
    rows = []
    for batch in batches.epoch(epoch, last=math.ceil(COMPARED / batches.batch_size)):
        truth = _truth(batch)
        known = truth != UNLABELLED
        logits = model(batch.inputs).float()[known]
        losses = F.cross_entropy(logits, truth[known], reduction="none")
        rows.append(torch.stack([losses, (logits.argmax(1) != truth[known]).to(losses)], 1).double().cpu())
    return torch.cat(rows)


def _truth(batch: Batch) -> Tensor:
    if batch.teacher is None:
        return batch.labels
    return torch.where(batch.labels == UNLABELLED, batch.teacher.logits.argmax(1), batch.labels)


def _worse(as_trained: Tensor, anew: Tensor) -> bool:
    if len(anew) < 2 or not anew[:, 0].isfinite().all():  # nothing to compare with
        return False
    difference = as_trained[:, 0] - anew[:, 0]
    mean, error = float(difference.mean()), float(difference.std()) / math.sqrt(len(difference))
    return not mean <= max(MATERIAL, NOISE * error)  # NaN is worse, too


@torch.no_grad()
def _take(model: nn.Module, norms: Sequence[_BatchNorm], batches: Batches, epoch: int, samples: int) -> None:
    """Set the statistics to the mean over the batches of so many samples, weighed by their number."""
    momenta, seen = [norm.momentum for norm in norms], 0
    for norm in norms:
        norm.reset_running_stats()
    model.train()
    for step, batch in enumerate(batches.epoch(epoch, last=math.ceil(samples / batches.batch_size))):
        reseed(batches.device, derive(batches.seed, "dropout", epoch, step))
        seen += len(batch)
        for norm in norms:
            norm.momentum = len(batch) / seen
        model(batch.inputs)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
