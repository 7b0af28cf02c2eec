"""Matching the teacher's logits (Buciluǎ, Caruana and Niculescu-Mizil 2006), the limit of distillation for large T.

The gradient of T² · KL is T · (q − p) / N for logits z and v, whose softmax at T are q and p. For T large against the
logits it tends to (z − v) / (N · C), each row's mean taken off: the gradient of this loss (Hinton, Vinyals and Dean
2015, section 2.1).
"""

from torch import Tensor

from kd_cli.data.samples import Answer, Batch
from kd_cli.objectives.cross_entropy import hard_loss, loss_weights


def matching_loss(logits: Tensor, teacher_logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return ½ · mean (z − v)² over samples and classes, of logits `[N, C]` less the mean of their row; float32. Each
    sample counts by its `weight`, where there is one.
    """
    difference = logits.float() - teacher_logits.float()
    if weight is not None:
        difference = difference * weight.sqrt()[:, None]
    return (difference - difference.mean(dim=1, keepdim=True)).square().mean() / 2


class LogitMatching:
    """`soft_weight` · ½ · mean (z − v)² + `hard_weight` · cross-entropy at T = 1 over what is labelled."""

    def __init__(self, soft_weight: float, hard_weight: float) -> None:
        self.soft_weight, self.hard_weight = loss_weights(soft_weight, hard_weight)

    def __call__(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `soft` and `hard`, unweighted, and `loss`, their weighted sum."""
        assert batch.teacher is not None
        soft = matching_loss(answer.logits, batch.teacher.logits, batch.teacher.weight)
        hard = hard_loss(answer.logits, batch)
        return {"loss": self.soft_weight * soft + self.hard_weight * hard, "soft": soft, "hard": hard}
