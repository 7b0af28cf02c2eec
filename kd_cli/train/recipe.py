"""How a model is trained: a recipe, its optimizer and its schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_cli.data.samples import Split
from kd_cli.device import PRECISIONS
from kd_cli.errors import Phrase, must
from kd_cli.ranges import number, whole_number
from kd_cli.train.accumulation import check_accumulate
from kd_cli.train.class_weights import check_class_weights
from kd_cli.train.memory_format import FORMATS
from kd_cli.train.patience import check_patience
from kd_cli.train.plateau import Plateau
from kd_cli.train.stepping import fused, keep_compiler_out, wants_closure

BATCH_STATISTICS = ("auto", "as_trained", "recomputed")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. `optimizer` is called with the parameters, `scheduler` with (optimizer, epochs, steps
    an epoch). `max_norm` bounds the length of each unit's incoming weights, `clip` that of the whole gradient: the soft
    term's grows with the teacher's logits. `select` is `last` or `best_validation`. Each of the others has a file of
    its own: `accumulate` parts a batch, `patience` in epochs, `class_weights` of the hard term, `batch_statistics` once
    the training is done, `start_from` a stored model or a file of weights.
    """

    epochs: int
    batch_size: int
    optimizer: Callable[..., Optimizer]
    scheduler: Callable[..., LRScheduler]
    precision: str = "auto"
    memory_format: str = "auto"
    max_norm: float | None = None
    clip: float | None = None
    select: str = "last"
    accumulate: int = 1
    patience: int | None = None
    class_weights: Any = None
    batch_statistics: str = "auto"
    start_from: str | None = None

    def build(self, model: nn.Module, steps: int) -> tuple[Optimizer, LRScheduler]:
        """Return the optimizer and the schedule for `steps` steps an epoch; ConfigError where torch refuses their
        values.
        """
        keep_compiler_out()
        if not any(parameter.requires_grad for parameter in model.parameters()):
            frozen = sum(1 for _ in model.parameters())
            got = f"one whose {frozen} parameters are all frozen" if frozen else "one without parameters"
            raise must(".model", "a network that has something to learn", Phrase(got))
        try:
            optimizer = fused(self.optimizer)(model.parameters())
        except (TypeError, ValueError, RuntimeError) as error:
            raise must(".train.optimizer", "one that torch accepts", Phrase(f"an error: {error}")) from error
        if not isinstance(optimizer, Optimizer) or wants_closure(optimizer):
            rule = "a torch optimizer whose step needs nothing"
            raise must(".train.optimizer", rule, type(optimizer).__name__, "Choose sgd or adamw.")
        try:
            return optimizer, self.scheduler(optimizer, self.epochs, steps)
        except (TypeError, ValueError) as error:
            raise must(".train.scheduler", "one that torch accepts", Phrase(f"an error: {error}")) from error

    def values(self) -> None:
        """Refuse what no network could be trained with, before there is any."""
        self.build(nn.Linear(2, 2, bias=False), 1)

    def check(self, model: nn.Module, validation: Split | None) -> None:
        """Refuse before any work what would be refused in training."""
        _, scheduler = self.build(model, 1)
        if validation is not None:
            return
        for key, value, other, used in (
            ("select", self.select, "last", self.select == "best_validation"),
            ("patience", self.patience, "null", self.patience is not None),
            ("scheduler.watch", "validation", "loss", _watches_validation(scheduler)),
        ):
            if used:
                hint = "Set dataset.validation=0.1."
                raise must(f".train.{key}", f"{other} where there is no validation split", value, hint)

    @property
    def sees_validation(self) -> bool:
        """Return whether the validation split has a say in the weights."""
        scheduler = self.build(nn.Linear(2, 2, bias=False), 1)[1]
        return self.select == "best_validation" or self.patience is not None or _watches_validation(scheduler)

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size"):
            whole_number(f".train.{key}", getattr(self, key), 1)
        object.__setattr__(self, "precision", str(self.precision))
        if self.precision not in PRECISIONS:
            raise must(".train.precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        if self.memory_format not in FORMATS:
            raise must(".train.memory_format", f"one of {', '.join(FORMATS)}", self.memory_format)
        for key in ("max_norm", "clip"):
            number(f".train.{key}", getattr(self, key), above=0, what="", null=True)
        if self.select not in ("last", "best_validation"):
            raise must(".train.select", "last or best_validation", self.select)
        check_accumulate(self.accumulate, self.batch_size)
        check_patience(self.patience)
        check_class_weights(self.class_weights)
        if self.batch_statistics not in BATCH_STATISTICS:
            raise must(".train.batch_statistics", f"one of {', '.join(BATCH_STATISTICS)}", self.batch_statistics)
        if self.start_from is not None and not isinstance(self.start_from, str):
            rule = "a stored model's folder, a run's, a file of weights, or null"
            raise must(".train.start_from", rule, self.start_from)


def _watches_validation(scheduler: LRScheduler) -> bool:
    return isinstance(scheduler, Plateau) and scheduler.watch == "validation"


@torch.no_grad()
def constrain(matrices: list[nn.Parameter], max_norm: float) -> None:
    """Scale each unit's incoming weights down to length `max_norm` (Srivastava et al. 2014, section 5.1)."""
    for weight in matrices:
        rows = weight.flatten(1)
        weight.mul_((max_norm / rows.norm(dim=1).clamp(min=max_norm)).view(-1, *[1] * (weight.ndim - 1)))
