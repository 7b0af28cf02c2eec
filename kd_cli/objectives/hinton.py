"""Distillation with softened targets (Hinton, Vinyals and Dean 2015, section 2)."""

from torch import Tensor
from torch.nn import functional as F

from kd_cli.data.samples import Answer, Batch
from kd_cli.objectives.cross_entropy import hard_loss, loss_weights
from kd_cli.ranges import number


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float, weight: Tensor | None = None) -> Tensor:
    """Return T² · KL(softmax(v/T) ‖ softmax(z/T)) in nats, mean over samples, in float32 log space; each by its
    `weight`, where there is one.

    T² keeps the gradient's size when T changes (section 2): the soft gradients scale as 1/T².
    """
    student = F.log_softmax(logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    if weight is not None:
        each = teacher.exp() * (teacher - student)  # as below, which has no weights
        return temperature**2 * (weight * each.sum(1)).mean()
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


class Hinton:
    """`soft_weight` · T² · KL + `hard_weight` · cross-entropy at T = 1 over what is labelled."""

    def __init__(self, temperature: float, soft_weight: float, hard_weight: float) -> None:
        number("temperature", temperature, above=0)
        self.temperature = temperature
        self.soft_weight, self.hard_weight = loss_weights(soft_weight, hard_weight)

    def __call__(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `soft` and `hard`, unweighted, and `loss`, their weighted sum."""
        assert batch.teacher is not None
        soft = soft_loss(answer.logits, batch.teacher.logits, self.temperature, batch.teacher.weight)
        hard = hard_loss(answer.logits, batch)
        return {"loss": self.soft_weight * soft + self.hard_weight * hard, "soft": soft, "hard": hard}
