"""Training. It exists once: the teacher, the student and the baseline all go through `fit`."""

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import each
from kd_cli.data.samples import Answer, Batch, Split
from kd_cli.device import (
    autocast,
    chosen_precision,
    float32_kernels,
    reseed,
    threads_for,
)
from kd_cli.errors import TrainingError
from kd_cli.measure.flops import work_of
from kd_cli.measure.prediction import predict
from kd_cli.progress import log
from kd_cli.train.accumulation import joined, parts_of
from kd_cli.train.batches import Batches, derive
from kd_cli.train.checkpoint import Checkpoint
from kd_cli.train.memory_format import LAYOUTS, chosen_memory_format, compiled
from kd_cli.train.meter import Meter
from kd_cli.train.patience import exhausted
from kd_cli.train.recipe import Recipe, constrain
from kd_cli.train.state import State
from kd_cli.train.stepping import bare_step

Objective = Callable[[Answer, Batch], dict[str, Tensor]]


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
    work = work_of(model, batches.split.samples.spec)
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

    def laid_out(value: Tensor) -> Tensor:
        return value.contiguous(memory_format=layout) if value.ndim == 4 else value

    def learn(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        done = []
        for parameter in parameters:  # as zero_grad, which tells the profiler first
            parameter.grad = None
        for part, share in parts_of(batch, recipe.accumulate):
            with autocast(device, precision):
                logits = forward(each(part.inputs, laid_out))
            terms = objective(Answer(logits.float()), part)
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
