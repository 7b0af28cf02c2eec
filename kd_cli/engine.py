"""Training and prediction. They exist once: the teacher, the student and the baseline all go through `fit`."""

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_cli.augment import Augment
from kd_cli.errors import ConfigError, TrainingError, must
from kd_cli.stepping import bare_step, keep_compiler_out
from kd_cli.types import UNLABELLED, Batch, Split

Objective = Callable[[Tensor, Batch], dict[str, Tensor]]
Targets = Callable[[Tensor, int, Tensor], Tensor]  # (positions, view, images) → float32 logits [n, classes]
PRECISIONS: dict[str, torch.dtype | None] = {"32": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
EVALUATION_BATCH = 256
SMALL_STEP = 3e8  # floating-point operations of a step below which a second thread costs more than it gives


def derive(*parts: int | str) -> int:
    """A seed out of these parts, the same everywhere, without the correlations of seed + epoch + step."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest())


def find_device(device: str) -> torch.device:
    """The device of this name; `auto` takes CUDA, then MPS, then the CPU."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[device]:
        there = ", ".join(name for name, yes in available.items() if yes)
        raise must("device", f"one that this machine has (auto, {there})", device)
    return torch.device(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Where the forward pass computes in half precision; weights, loss and softmax stay float32."""
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. `optimizer` is called with the parameters, `scheduler` with (optimizer, epochs, steps
    an epoch). `max_norm` bounds the length of each unit's incoming weights, `clip` that of the whole gradient: the soft
    term's grows with the teacher's logits. `select` is `last` or `best_validation`.
    """

    epochs: int
    batch_size: int
    optimizer: Callable[..., Optimizer]
    scheduler: Callable[..., LRScheduler]
    precision: str = "32"
    max_norm: float | None = None
    clip: float | None = None
    select: str = "last"

    def build(self, model: nn.Module, steps: int) -> tuple[Optimizer, LRScheduler]:
        """Optimizer and schedule for `steps` steps an epoch; ConfigError where torch refuses their values."""
        keep_compiler_out()
        try:
            optimizer = self.optimizer(model.parameters())
        except (TypeError, ValueError) as error:
            raise ConfigError(f"train.optimizer must be one that torch accepts, got an error: {error}.") from error
        try:
            return optimizer, self.scheduler(optimizer, self.epochs, steps)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"train.scheduler must be one that torch accepts, got an error: {error}.") from error

    def check(self, model: nn.Module, validation: Split | None) -> None:
        """Refuses before any work what would be refused in training."""
        self.build(model, 1)
        if self.select == "best_validation" and validation is None:
            hint = "Set dataset.validation=0.1."
            raise must("train.select", "last where there is no validation split", self.select, hint)

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise must(f"train.{key}", "a whole number ≥ 1", value)
        object.__setattr__(self, "precision", str(self.precision))
        if self.precision not in PRECISIONS:
            raise must("train.precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        for key in ("max_norm", "clip"):
            bound = getattr(self, key)
            if bound is not None and (isinstance(bound, bool) or not (isinstance(bound, int | float) and bound > 0)):
                raise must(f"train.{key}", "> 0 or null", bound)
        if self.select not in ("last", "best_validation"):
            raise must("train.select", "last or best_validation", self.select)


class Batches:
    """One epoch after the other: shuffled positions → images → augmentation → the teacher's logits.

    Everything follows from (seed, epoch), so that two models with the same seed see the same batches. With `views`
    epoch e shows view e mod `views` of the augmentation; without, each epoch shows a view of its own.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        device: torch.device,
        augment: Augment | None = None,
        augment_seed: int = 0,
        views: int | None = None,
        targets: Targets | None = None,
    ) -> None:
        self.split, self.batch_size, self.seed, self.device = split, batch_size, seed, device
        self.augment, self.augment_seed, self.views, self.targets = augment, augment_seed, views, targets
        self._labels, self._index = split.labels.to(device), split.index.to(device)

    def __len__(self) -> int:
        return len(self._cut(torch.empty(len(self.split))))

    def _cut(self, order: Tensor) -> list[Tensor]:
        """Batches of `batch_size`; a single sample left over joins the batch before it, for batch norm needs two."""
        cut = list(order.split(self.batch_size))
        if len(cut) > 1 and len(cut[-1]) == 1:
            cut[-2:] = [torch.cat(cut[-2:])]
        return cut

    def order(self, epoch: int) -> list[Tensor]:
        """The positions of each batch of this epoch, int64 on the CPU."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        return self._cut(torch.randperm(len(self.split), generator=generator))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of this epoch, counted from 0."""
        view = epoch % self.views if self.views else epoch
        order = self.order(epoch)
        for positions, pixels in zip(order, self.split.images.stream(order, self.device), strict=True):
            here = positions.to(self.device)
            if self.augment is not None:
                pixels = self.augment(pixels, self._index[here], self.augment_seed, view)
            images = pixels.float().div_(255)
            logits = self.targets(positions, view, images) if self.targets is not None else None
            yield Batch(images, self._labels[here], logits)


def fit(
    model: nn.Module,
    batches: Batches,
    objective: Objective,
    recipe: Recipe,
    validation: Split | None = None,
    compile: bool = False,
    on_step: Callable[[int, int], None] = lambda epoch, step: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda record: None,
) -> None:
    """Trains `model` in place.

    `on_epoch` is given what history.jsonl holds of each epoch: epoch, lr, each loss term, train and validation
    accuracy, images/s. Raises TrainingError as soon as an epoch's loss is not a number.
    """
    recipe.check(model, validation)
    device = batches.device
    model.to(device)
    optimizer, scheduler = recipe.build(model, len(batches))
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "16-mixed")
    move = bare_step(optimizer)
    forward = torch.compile(model) if compile else model
    matrices = [p for p in model.parameters() if p.ndim > 1] if recipe.max_norm else []

    def learn(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast(device, recipe.precision):
            logits = forward(batch.images)
        terms = objective(logits.float(), batch)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(terms["loss"]).backward()
        if recipe.clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        if scaler.is_enabled():
            scaler.step(optimizer)
            scaler.update()
        else:
            move()
        scheduler.step()
        if recipe.max_norm is not None:
            constrain(matrices, recipe.max_norm)
        return logits.detach(), {name: term.detach() for name, term in terms.items()}

    best, fewest = None, math.inf
    with threads_for(model, recipe.batch_size):
        for epoch in range(recipe.epochs):
            model.train()
            lr, meter = optimizer.param_groups[0]["lr"], Meter(device)
            for step, batch in enumerate(batches.epoch(epoch)):
                torch.manual_seed(derive(batches.seed, "dropout", epoch, step))
                meter.add(batch, *learn(batch))
                on_step(epoch, step)
            figures = meter.figures()
            if not math.isfinite(figures["loss"]):
                value = "NaN" if math.isnan(figures["loss"]) else "infinite"
                raise TrainingError(
                    f"The loss turned {value} in epoch {epoch + 1} of {recipe.epochs} at learning rate {lr:g}. "
                    "Try a lower train.optimizer.lr, train.clip=1 or train.precision=32."
                )
            if validation is not None:
                wrong = int((predict(model, validation, device).argmax(1) != validation.labels).sum())
                figures["validation_accuracy"] = 1 - wrong / len(validation)
                if recipe.select == "best_validation" and wrong < fewest:
                    best, fewest = copy.deepcopy(model.state_dict()), wrong
            on_epoch({"epoch": epoch + 1, "lr": lr, **figures})
    if best is not None:
        model.load_state_dict(best)
    model.eval()


class Meter:
    """Means over the samples of an epoch, kept on the device until they are asked for."""

    def __init__(self, device: torch.device) -> None:
        self.started, self.seen = time.perf_counter(), 0
        self.sums: dict[str, Tensor] = {}
        self.right = torch.zeros(2, dtype=torch.int64, device=device)  # right, labelled

    def add(self, batch: Batch, logits: Tensor, terms: dict[str, Tensor]) -> None:
        """Counts one batch, by its number of samples: the last one may be smaller."""
        n = len(batch.images)
        for name, term in terms.items():
            self.sums[name] = self.sums[name] + term * n if name in self.sums else term * n
        self.right += torch.stack([(logits.argmax(1) == batch.labels).sum(), (batch.labels != UNLABELLED).sum()])
        self.seen += n

    def figures(self) -> dict[str, float]:
        """Each loss term, the accuracy on the labelled samples, and images/s."""
        means = {name: float(total) / self.seen for name, total in self.sums.items()}
        right, labelled = self.right.tolist()
        accuracy = {"train_accuracy": right / labelled} if labelled else {}
        return {**means, **accuracy, "images_per_second": self.seen / (time.perf_counter() - self.started)}


@contextmanager
def threads_for(model: nn.Module, batch_size: int) -> Iterator[None]:
    """One thread for a network without convolutions whose step is too small to share; otherwise all there are."""
    threads = torch.get_num_threads()
    weights = list(model.parameters())
    if all(p.ndim <= 2 for p in weights) and 6 * batch_size * sum(p.numel() for p in weights) < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def constrain(matrices: list[nn.Parameter], max_norm: float) -> None:
    """Scales each unit's incoming weights down to length `max_norm` (Srivastava et al. 2014, section 5.1)."""
    for weight in matrices:
        rows = weight.flatten(1)
        weight.mul_((max_norm / rows.norm(dim=1).clamp(min=max_norm)).view(-1, *[1] * (weight.ndim - 1)))


@torch.inference_mode()
def predict(
    model: nn.Module,
    split: Split,
    device: torch.device,
    augment: Augment | None = None,
    augment_seed: int = 0,
    view: int = 0,
    positions: Tensor | None = None,
    on_step: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """Float32 logits `[N, classes]` on the CPU, in the order of the split (or of `positions`), in eval mode.

    Computed in float32, in batches of one size: a short last batch is padded, because other kernels may serve other
    sizes and give other last bits.
    """
    training = model.training
    model.to(device).eval()
    chosen = torch.arange(len(split)) if positions is None else positions
    batches = chosen.split(EVALUATION_BATCH)
    rows = []
    for where, pixels in zip(batches, split.images.stream(batches, device), strict=True):
        if augment is not None:
            pixels = augment(pixels, split.index[where].to(device), augment_seed, view)
        n = len(pixels)
        if n < EVALUATION_BATCH and len(chosen) > EVALUATION_BATCH:
            pixels = torch.cat([pixels, pixels.new_zeros(EVALUATION_BATCH - n, *pixels.shape[1:])])
        rows.append(model(pixels.float().div_(255))[:n].float().cpu())
        on_step(n)
    model.train(training)
    return torch.cat(rows)
