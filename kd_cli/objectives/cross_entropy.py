"""Cross-entropy with the hard labels: how the teacher and the baseline are trained."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.data.samples import UNLABELLED, Answer, Batch
from kd_cli.errors import must
from kd_cli.ranges import number


def hard_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Return the mean cross-entropy in nats over what is labelled, 0 where nothing is; float32.

    A sample counts by its labelled mass: 1 or 0, and in a mixture the share λ of the sample itself if it has a label,
    plus 1 − λ if its partner has one. The mean is Σ (λ · CE(label) + (1 − λ) · CE(partner's label)) over the labelled
    parts, divided by their mass. With class weights a part has its class's weight as a factor of its mass.
    """
    weights = batch.class_weights
    mass = labelled_mass(batch) if batch.mass is None else batch.mass
    if batch.mixture is None:
        total = F.cross_entropy(logits.float(), batch.labels, weights, ignore_index=UNLABELLED, reduction="sum")
    else:
        likely = F.log_softmax(logits.float(), dim=1).repeat(2, 1)
        labels, shares = _mixed(batch.labels, *batch.mixture)
        total = (shares * F.nll_loss(likely, labels, weights, ignore_index=UNLABELLED, reduction="none")).sum()
    return total / mass.clamp(min=torch.finfo(mass.dtype).tiny if mass.is_floating_point() else 1)


def labelled_mass(batch: Batch) -> Tensor:
    """Return what `hard_loss` divides the sum over a whole batch by: a number of labels, or their mass."""
    if batch.mixture is None:
        labelled = batch.labels != UNLABELLED
        return labelled.sum() if batch.class_weights is None else (labelled * _weights(batch, batch.labels)).sum()
    labels, shares = _mixed(batch.labels, *batch.mixture)
    mass = shares * (labels != UNLABELLED)
    return mass.sum() if batch.class_weights is None else (mass * _weights(batch, labels)).sum()


def _mixed(labels: Tensor, partners: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([labels, partners]), torch.cat([share, 1 - share])


def _weights(batch: Batch, labels: Tensor) -> Tensor:
    assert batch.class_weights is not None
    return batch.class_weights[labels.clamp(min=0)]


class CrossEntropy:
    """Objective of plain training."""

    def __call__(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """Return the one term, `loss`."""
        return {"loss": hard_loss(answer.logits, batch)}


def loss_weights(soft_weight: float, hard_weight: float) -> tuple[float, float]:
    """Return these loss weights, checked: finite, not negative, not both zero."""
    for key, weight in (("soft_weight", soft_weight), ("hard_weight", hard_weight)):
        number(key, weight, at_least=0)
    if soft_weight == hard_weight == 0:
        raise must("soft_weight or hard_weight", "> 0", 0, "With both zero there is nothing to learn from.")
    return soft_weight, hard_weight
