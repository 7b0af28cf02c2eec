"""Training. It exists once: the teacher, the student and the baseline all go through `fit`."""

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_cli.accumulation import check_accumulate, joined, parts_of
from kd_cli.batches import Batches, derive
from kd_cli.checkpoint import Checkpoint
from kd_cli.class_weights import check_class_weights
from kd_cli.device import (
    PRECISIONS,
    autocast,
    chosen_precision,
    float32_kernels,
    reseed,
    threads_for,
)
from kd_cli.errors import ConfigError, TrainingError, must
from kd_cli.flops import work_of
from kd_cli.memory_format import FORMATS, LAYOUTS, chosen_memory_format, compiled
from kd_cli.meter import Meter
from kd_cli.patience import check_patience, exhausted
from kd_cli.plateau import Plateau
from kd_cli.prediction import predict
from kd_cli.progress import log
from kd_cli.state import State
from kd_cli.stepping import bare_step, fused, keep_compiler_out, wants_closure
from kd_cli.types import Batch, Split

Objective = Callable[[Tensor, Batch], dict[str, Tensor]]
BATCH_STATISTICS = ("auto", "as_trained", "recomputed")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. `optimizer` is called with the parameters, `scheduler` with (optimizer, epochs, steps
    an epoch). `max_norm` bounds the length of each unit's incoming weights, `clip` that of the whole gradient: the soft
    term's grows with the teacher's logits. `select` is `last` or `best_validation`. Each of the others has a file of
    its own: `accumulate` parts a batch, `patience` in epochs, `class_weights` of the hard term, `batch_statistics` once
    the training is done, `start_from` a stored model.
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
        """Optimizer and schedule for `steps` steps an epoch; ConfigError where torch refuses their values."""
        keep_compiler_out()
        if not any(parameter.requires_grad for parameter in model.parameters()):
            number = sum(1 for _ in model.parameters())
            got = f"one whose {number} parameters are all frozen" if number else "one without parameters"
            raise ConfigError(f"model must be a network that has something to learn, got {got}.")
        try:
            optimizer = fused(self.optimizer)(model.parameters())
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"train.optimizer must be one that torch accepts, got an error: {error}.") from error
        if not isinstance(optimizer, Optimizer) or wants_closure(optimizer):
            rule = "a torch optimizer whose step needs nothing"
            raise must("train.optimizer", rule, type(optimizer).__name__, "Choose sgd or adamw.")
        try:
            return optimizer, self.scheduler(optimizer, self.epochs, steps)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"train.scheduler must be one that torch accepts, got an error: {error}.") from error

    def values(self) -> None:
        """Refuses what no network could be trained with, before there is any."""
        self.build(nn.Linear(2, 2, bias=False), 1)

    def check(self, model: nn.Module, validation: Split | None) -> None:
        """Refuses before any work what would be refused in training."""
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
                raise must(f"train.{key}", f"{other} where there is no validation split", value, hint)

    @property
    def sees_validation(self) -> bool:
        """Whether the validation split has a say in the weights."""
        scheduler = self.build(nn.Linear(2, 2, bias=False), 1)[1]
        return self.select == "best_validation" or self.patience is not None or _watches_validation(scheduler)

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise must(f"train.{key}", "a whole number ≥ 1", value)
        object.__setattr__(self, "precision", str(self.precision))
        if self.precision not in PRECISIONS:
            raise must("train.precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        if self.memory_format not in FORMATS:
            raise must("train.memory_format", f"one of {', '.join(FORMATS)}", self.memory_format)
        for key in ("max_norm", "clip"):
            bound = getattr(self, key)
            if bound is not None and (isinstance(bound, bool) or not (isinstance(bound, int | float) and bound > 0)):
                raise must(f"train.{key}", "> 0 or null", bound)
        if self.select not in ("last", "best_validation"):
            raise must("train.select", "last or best_validation", self.select)
        check_accumulate(self.accumulate, self.batch_size)
        check_patience(self.patience)
        check_class_weights(self.class_weights)
        if self.batch_statistics not in BATCH_STATISTICS:
            raise must("train.batch_statistics", f"one of {', '.join(BATCH_STATISTICS)}", self.batch_statistics)
        if self.start_from is not None and not isinstance(self.start_from, str):
            raise must("train.start_from", "the folder of a stored model or of a run, or null", self.start_from)


def fit(
    model: nn.Module,
    batches: Batches,
    objective: Objective,
    recipe: Recipe,
    validation: Split | None = None,
    compile: bool = False,
    checkpoint: Checkpoint | None = None,
    on_step: Callable[[int, int], None] = lambda epoch, step: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda record: None,
) -> str:
    """Trains `model` in place, and returns the precision that was chosen.

    `on_epoch` is given what history.jsonl holds of each epoch: epoch, lr, each loss term, train and validation
    accuracy, images/s. A `checkpoint` is gone on from, and written when it is due. Raises TrainingError as soon as an
    epoch's loss is not a number.
    """
    recipe.check(model, validation)
    device = batches.device
    model.to(device)
    work = work_of(model, batches.split.images.shape)
    flops = work.of_step(recipe.batch_size)
    memory_format = chosen_memory_format(recipe.memory_format, work.convolutions)
    layout = LAYOUTS[memory_format]
    model.to(memory_format=layout)
    optimizer, scheduler = recipe.build(model, len(batches))
    precision = chosen_precision(recipe.precision, device, flops)
    if precision != recipe.precision:
        log.info("precision %s, chosen for precision=%s", precision, recipe.precision)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")
    move = bare_step(optimizer)
    forward = compiled(model, memory_format) if compile else model
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim > 1] if recipe.max_norm else []

    def learn(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        done = []
        for parameter in parameters:  # as zero_grad, which tells the profiler first
            parameter.grad = None
        for part, share in parts_of(batch, recipe.accumulate):
            with autocast(device, precision):
                logits = forward(part.images.contiguous(memory_format=layout))
            terms = objective(logits.float(), part)
            scaler.scale(terms["loss"] if share == 1 else terms["loss"] * share).backward()
            done.append((logits.detach(), {name: term.detach() for name, term in terms.items()}, share))
        if recipe.clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
        if scaler.is_enabled():
            scaler.step(optimizer)
            scaler.update()
        else:
            move()
        scheduler.step()
        if recipe.max_norm is not None:
            constrain(matrices, recipe.max_norm)
        return joined(done)

    state = State(model, optimizer, scheduler, scaler, Meter(), len(batches))

    def watch(**kernels: str) -> AbstractContextManager[Callable[[], None]]:
        how = {"precision": precision, "memory_format": memory_format, "compile": compile, **kernels}
        return checkpoint.watch(state, **how) if checkpoint is not None else nullcontext(lambda: None)

    with threads_for(flops), float32_kernels(device, flops) as kernels, watch(kernels=kernels) as keep:
        for epoch in range(state.epoch, recipe.epochs):
            if exhausted(state.figures, recipe.patience):
                log.info("stopped after epoch %d: validation brought nothing new for %d", epoch, recipe.patience)
                break
            model.train()
            if state.step == 0:
                state.lr, state.meter = optimizer.param_groups[0]["lr"], Meter()
            for step, batch in enumerate(batches.epoch(epoch, state.step), state.step):
                reseed(device, derive(batches.seed, "dropout", epoch, step))
                state.meter.add(batch, *learn(batch))
                state.step = step + 1
                on_step(epoch, step)
                keep()
            figures = state.meter.figures()
            if not math.isfinite(figures["loss"]):
                value = "NaN" if math.isnan(figures["loss"]) else "infinite"
                raise TrainingError(
                    f"The loss turned {value} in epoch {epoch + 1} of {recipe.epochs} at learning rate {state.lr:g}. "
                    "Try a lower train.optimizer.lr, train.clip=1 or train.precision=32."
                )
            if validation is not None:
                wrong = int((predict(model, validation, device).argmax(1) != validation.labels).sum())
                figures["validation_accuracy"] = 1 - wrong / len(validation)
                if recipe.select == "best_validation" and wrong < state.fewest:
                    state.best, state.fewest = copy.deepcopy(model.state_dict()), wrong
            state.epoch, state.step = epoch + 1, 0
            state.note(figures)
            on_epoch({"epoch": state.epoch, "lr": state.lr, **figures})
            keep()
    if state.best is not None:
        model.load_state_dict(state.best)
    model.to(memory_format=torch.contiguous_format)
    model.eval()
    return precision


def _watches_validation(scheduler: LRScheduler) -> bool:
    return isinstance(scheduler, Plateau) and scheduler.watch == "validation"


@torch.no_grad()
def constrain(matrices: list[nn.Parameter], max_norm: float) -> None:
    """Scales each unit's incoming weights down to length `max_norm` (Srivastava et al. 2014, section 5.1)."""
    for weight in matrices:
        rows = weight.flatten(1)
        weight.mul_((max_norm / rows.norm(dim=1).clamp(min=max_norm)).view(-1, *[1] * (weight.ndim - 1)))
