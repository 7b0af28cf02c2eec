"""The teacher's answer as a hard label: what distillation is without dark knowledge, for comparison."""

from torch import Tensor
from torch.nn import functional as F

from kd_cli.data.samples import Answer, Batch
from kd_cli.objectives.cross_entropy import hard_loss, loss_weights


class HardTeacher:
    """`soft_weight` · cross-entropy with the teacher's argmax + `hard_weight` · cross-entropy over what is labelled."""

    def __init__(self, soft_weight: float, hard_weight: float) -> None:
        self.soft_weight, self.hard_weight = loss_weights(soft_weight, hard_weight)

    def __call__(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `soft` (of the teacher's answer) and `hard`, unweighted, and `loss`, their weighted sum."""
        assert batch.teacher is not None
        told, weight = batch.teacher.logits.argmax(dim=1), batch.teacher.weight
        if weight is None:
            soft = F.cross_entropy(answer.logits.float(), told)
        else:
            soft = (weight * F.cross_entropy(answer.logits.float(), told, reduction="none")).mean()
        hard = hard_loss(answer.logits, batch)
        return {"loss": self.soft_weight * soft + self.hard_weight * hard, "soft": soft, "hard": hard}
