"""Training and prediction. They exist once: the teacher, the student and the baseline all go through `fit`."""

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_cli.augment import Augment
from kd_cli.errors import TrainingError, must
from kd_cli.types import UNLABELLED, Batch, Split

Objective = Callable[[Tensor, Batch], dict[str, Tensor]]
Targets = Callable[[Tensor, int, Tensor], Tensor]  # (positions, view, images) → float32 logits [n, classes]
PRECISIONS: dict[str, torch.dtype | None] = {"32": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
EVALUATION_BATCH = 256


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
    an epoch). `max_norm` bounds the length of each unit's incoming weights; `select` is `last` or `best_validation`.
    """

    epochs: int
    batch_size: int
    optimizer: Callable[..., Optimizer]
    scheduler: Callable[..., LRScheduler]
    precision: str = "32"
    max_norm: float | None = None
    select: str = "last"

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise must(f"train.{key}", "a whole number ≥ 1", value)
        object.__setattr__(self, "precision", str(self.precision))
        if self.precision not in PRECISIONS:
            raise must("train.precision", f"one of {', '.join(PRECISIONS)}", self.precision)
        if self.max_norm is not None and not self.max_norm > 0:
            raise must("train.max_norm", "> 0 or null", self.max_norm)
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
        return math.ceil(len(self.split) / self.batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of this epoch, counted from 0."""
        view = epoch % self.views if self.views else epoch
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        order = torch.randperm(len(self.split), generator=generator).split(self.batch_size)
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

    `on_epoch` is given what history.jsonl holds of each epoch: epoch, lr, each loss term, train and validation accuracy,
    images/s. Raises TrainingError as soon as an epoch's loss is not a number.
    """
    if recipe.select == "best_validation" and validation is None:
        raise must("train.select", "last where there is no validation split", recipe.select, "Set dataset.validation=0.1.")
    device = batches.device
    model.to(device)
    optimizer = recipe.optimizer(model.parameters())
    scheduler = recipe.scheduler(optimizer, recipe.epochs, len(batches))
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "16-mixed")
    forward = torch.compile(model) if compile else model
    matrices = [p for p in model.parameters() if p.ndim > 1] if recipe.max_norm else []
    best, best_errors = None, math.inf
    for epoch in range(recipe.epochs):
        model.train()
        started, seen, lr = time.perf_counter(), 0, optimizer.param_groups[0]["lr"]
        sums: dict[str, Tensor] = {}
        correct = torch.zeros((), dtype=torch.int64, device=device)
        for step, batch in enumerate(batches.epoch(epoch)):
            torch.manual_seed(derive(batches.seed, "dropout", epoch, step))
            with autocast(device, recipe.precision):
                logits = forward(batch.images)
            terms = objective(logits.float(), batch)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(terms["loss"]).backward()
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            _constrain(matrices, recipe.max_norm)
            n = len(batch.images)
            with torch.no_grad():
                for name, term in terms.items():
                    sums[name] = sums.get(name, 0) + term.detach() * n
                correct += (logits.argmax(1) == batch.labels).sum()
            seen += n
            on_step(epoch, step)
        means = {name: float(total) / seen for name, total in sums.items()}
        seconds = time.perf_counter() - started
        if not math.isfinite(means["loss"]):
            raise TrainingError(
                f"The loss turned {means['loss']} in epoch {epoch + 1} of {recipe.epochs} at learning rate {lr:g}. "
                "Try a lower train.optimizer.lr, a scheduler with a warm-up, or train.precision=32."
            )
        labelled = int((batches.split.labels != UNLABELLED).sum())
        record = {"epoch": epoch + 1, "lr": lr, **means}
        if labelled:
            record["train_accuracy"] = int(correct) / labelled
        if validation is not None:
            wrong = int((predict(model, validation, device).argmax(1) != validation.labels).sum())
            record["validation_accuracy"] = 1 - wrong / len(validation)
            if recipe.select == "best_validation" and wrong < best_errors:
                best, best_errors = copy.deepcopy(model.state_dict()), wrong
        on_epoch({**record, "images_per_second": seen / seconds})
    if best is not None:
        model.load_state_dict(best)
    model.eval()


@torch.no_grad()
def _constrain(matrices: list[nn.Parameter], max_norm: float | None) -> None:
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
