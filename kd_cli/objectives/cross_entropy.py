"""Cross-entropy with the hard labels: how the teacher and the baseline are trained."""

from torch import Tensor
from torch.nn import functional as F

from kd_cli.types import UNLABELLED, Batch


def hard_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats over the labelled samples, 0 where there are none; float32."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=UNLABELLED, reduction="sum")
    return total / (labels != UNLABELLED).sum().clamp(min=1)


class CrossEntropy:
    """Objective of plain training."""

    def __call__(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The one term, `loss`."""
        return {"loss": hard_loss(logits, batch.labels)}
