"""Training one network: the teacher, the student and the baseline all go through `fit`."""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import each
from kd_cli.data.samples import Answer, Batch, Split
from kd_cli.device import autocast, chosen_precision, reseed
from kd_cli.errors import TrainingError
from kd_cli.measure.flops import work_of
from kd_cli.measure.prediction import errors_on
from kd_cli.progress import log
from kd_cli.train.accumulation import parts_of, rejoined
from kd_cli.train.batches import Batches, derive
from kd_cli.train.checkpoint import Checkpoint
from kd_cli.train.devices import Devices, OneDevice
from kd_cli.train.loop import train
from kd_cli.train.memory_format import LAYOUTS, chosen_memory_format, compiled
from kd_cli.train.meter import Meter
from kd_cli.train.patience import exhausted
from kd_cli.train.recipe import Recipe, constrain
from kd_cli.train.state import State
from kd_cli.train.stepping import bare_step
from kd_cli.train.watch import Record, Watch

Objective = Callable[[Answer, Batch], dict[str, Tensor]]


def fit(
    model: nn.Module,
    batches: Batches,
    objective: Objective,
    recipe: Recipe,
    validation: Split | None = None,
    compile: bool = False,
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
    devices: Devices | None = None,
) -> str:
    """Train `model` in place, and return the precision that was chosen.

    `watch` is told what history.jsonl holds of each epoch: epoch, lr, each loss term, train and validation accuracy,
    samples/s. A `checkpoint` is gone on from, and written when it is due. Raises TrainingError as soon as an epoch's
    loss is not a number. `devices` are by default that of the batches.
    """
    recipe.check(model, validation)
    devices = devices or OneDevice(batches.device)
    training = NetworkTraining(model, batches, objective, recipe, validation, compile, devices)
    if training.precision != recipe.precision:
        log.info("precision %s, chosen for precision=%s", training.precision, recipe.precision)
    train(training, checkpoint, watch)
    if training.state.best is not None:
        model.load_state_dict(training.state.best)
    model.to(memory_format=torch.contiguous_format)
    model.eval()
    return training.precision


class NetworkTraining:
    """One network on its way to an objective's minimum, a `Training`."""

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        objective: Objective,
        recipe: Recipe,
        validation: Split | None,
        compile: bool,
        devices: Devices,
    ) -> None:
        self.model, self.batches, self.objective = model, batches, objective
        self.recipe, self.epochs, self.validation = recipe, recipe.epochs, validation
        self.devices, device = devices, devices.device
        model.to(device)
        work = work_of(model, batches.split.samples.spec)
        self.flops = work.of_step(recipe.batch_size)
        self.precision = chosen_precision(recipe.precision, device, self.flops)
        memory_format = chosen_memory_format(recipe.memory_format, work.convolutions)
        self.circumstances = {"precision": self.precision, "memory_format": memory_format, "compile": compile}
        self._layout = LAYOUTS[memory_format]
        model.to(memory_format=self._layout).train()
        optimizer, scheduler = recipe.build(model, len(batches))
        scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "16-mixed")
        self.state = State(model, optimizer, scheduler, scaler, Meter(), len(batches))
        self._move = bare_step(optimizer)
        self._forward = devices.prepare(compiled(model, memory_format) if compile else model)
        self._parameters = list(model.parameters())
        self._matrices = [p for p in self._parameters if p.ndim > 1]

    def ended(self) -> bool:
        """Return whether the validation split has shown nothing new for as long as the recipe is patient."""
        if not exhausted(self.state.figures, self.recipe.patience):
            return False
        done, patience = self.state.epoch, self.recipe.patience
        log.info("stopped after epoch %d: validation brought nothing new for %d", done, patience)
        return True

    def begin(self) -> None:
        """Begin to count anew, at the learning rate of the first step."""
        self.state.lr, self.state.meter = self.state.optimizer.param_groups[0]["lr"], Meter()

    def step(self, batch: Batch, epoch: int, step: int) -> None:
        """Learn from one batch, in as many parts as the recipe says."""
        reseed(self.batches.device, derive(self.batches.seed, "dropout", epoch, step))
        state, scaler, done = self.state, self.state.scaler, []
        for parameter in self._parameters:  # as zero_grad, which tells the profiler first
            parameter.grad = None
        for part, share in parts_of(batch, self.recipe.accumulate):
            with autocast(self.batches.device, self.precision):
                logits = self._forward(each(part.inputs, self._laid_out))
            terms = self.objective(Answer(logits.float()), part)
            self.devices.backward(scaler.scale(terms["loss"] if share == 1 else terms["loss"] * share))
            done.append((logits.detach(), {name: term.detach() for name, term in terms.items()}, share))
        if self.recipe.clip is not None:
            scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self.recipe.clip)
        if scaler.is_enabled():
            scaler.step(state.optimizer)
            scaler.update()
        else:
            self._move()
        state.scheduler.step()
        if self.recipe.max_norm is not None:
            constrain(self._matrices, self.recipe.max_norm)
        state.meter.add(batch, *rejoined(done))

    def _laid_out(self, value: Tensor) -> Tensor:
        return value.contiguous(memory_format=self._layout) if value.ndim == 4 else value

    def figures(self) -> Record:
        """Return what the epoch came to, and keep the weights where they are the best on the validation split."""
        state, number = self.state, self.state.epoch + 1
        figures = state.meter.figures(self.devices.sum)
        if not math.isfinite(figures["loss"]):
            value = "NaN" if math.isnan(figures["loss"]) else "infinite"
            raise TrainingError(
                f"The loss turned {value} in epoch {number} of {self.epochs} at learning rate {state.lr:g}.",
                *TrainingError.CALMER,
            )
        if self.validation is not None:
            wrong = errors_on(self.model, self.validation, self.batches.device)
            figures["validation_accuracy"] = 1 - wrong / len(self.validation)
            if self.recipe.select == "best_validation" and wrong < state.fewest:
                state.best, state.fewest = copy.deepcopy(self.model.state_dict()), wrong
        state.note(figures)
        return {"epoch": number, "lr": state.lr, **figures}
