"""Cross-entropy with the hard labels: how the teacher and the baseline are trained."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.errors import must
from kd_cli.types import UNLABELLED, Batch


def hard_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy in nats over what is labelled, 0 where nothing is; float32.

    A sample counts by its labelled mass: 1 or 0, and in a mixture the share λ of the sample itself if it has a label,
    plus 1 − λ if its partner has one. The mean is Σ (λ · CE(label) + (1 − λ) · CE(partner's label)) over the labelled
    parts, divided by their mass.
    """
    if batch.partner_labels is None or batch.share is None:
        total = F.cross_entropy(logits.float(), batch.labels, ignore_index=UNLABELLED, reduction="sum")
        return total / (batch.labels != UNLABELLED).sum().clamp(min=1)
    likely = F.log_softmax(logits.float(), dim=1)
    labels = torch.cat([batch.labels, batch.partner_labels])
    mass = torch.cat([batch.share, 1 - batch.share]) * (labels != UNLABELLED)
    losses = F.nll_loss(likely.repeat(2, 1), labels, ignore_index=UNLABELLED, reduction="none")
    return (mass * losses).sum() / mass.sum().clamp(min=torch.finfo(mass.dtype).tiny)


class CrossEntropy:
    """Objective of plain training."""

    def __call__(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The one term, `loss`."""
        return {"loss": hard_loss(logits, batch)}


def loss_weights(soft_weight: float, hard_weight: float) -> tuple[float, float]:
    """These loss weights, checked: finite, not negative, not both zero."""
    for key, weight in (("soft_weight", soft_weight), ("hard_weight", hard_weight)):
        if not (math.isfinite(weight) and weight >= 0):
            raise must(key, "a number ≥ 0", weight)
    if soft_weight == hard_weight == 0:
        raise must("soft_weight or hard_weight", "> 0", 0, "With both zero there is nothing to learn from.")
    return soft_weight, hard_weight
