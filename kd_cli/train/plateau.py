"""A learning rate that falls where training no longer gains."""

from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kd_cli.errors import must
from kd_cli.ranges import number, whole_number

WATCHED: dict[str, tuple[str, Literal["min", "max"]]] = {
    "validation": ("validation_accuracy", "max"),
    "loss": ("loss", "min"),
}


class Plateau(ReduceLROnPlateau):
    """torch's: the learning rate times `factor` once `patience` epochs in a row brought what is watched no further.

    `watch` is `validation` (the accuracy on the validation split) or `loss` (the training loss). Unlike other
    schedules it is moved by what an epoch gave, and not by steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        epochs: int,
        steps_per_epoch: int,
        watch: str = "validation",
        factor: float = 0.1,
        patience: int = 5,
        threshold: float = 1e-4,
    ) -> None:
        if watch not in WATCHED:
            raise must(".train.scheduler.watch", f"one of {', '.join(WATCHED)}", watch)
        number(".train.scheduler.factor", factor, above=0, below=1)
        whole_number(".train.scheduler.patience", patience, 0)
        number(".train.scheduler.threshold", threshold, at_least=0, below=1, what="a share of the best value,")
        self.watch = watch
        self.watched, mode = WATCHED[watch]
        super().__init__(optimizer, mode, factor=factor, patience=patience, threshold=threshold)

    def step(self, *_: Any) -> None:
        """Nothing: a step of training does not move it."""

    def after(self, figures: dict[str, float]) -> None:
        """Take note of what an epoch gave."""
        super().step(figures[self.watched])
