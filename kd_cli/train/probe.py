"""One step of training before any work: what would fail only in training mode is refused at once."""

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from kd_cli.build.logits import check_logits
from kd_cli.data.samples import Answer, Batch
from kd_cli.data.spec import Spec
from kd_cli.device import autocast, chosen_precision
from kd_cli.errors import ConfigError, KdError, Phrase, first_line, must
from kd_cli.measure.flops import work_of
from kd_cli.progress import log
from kd_cli.targets.batch_size import out_of_memory
from kd_cli.train.accumulation import parts_of
from kd_cli.train.batches import Batches
from kd_cli.train.fit import Objective
from kd_cli.train.recipe import Recipe
from kd_cli.train.stepping import bare_step

BATCH_NORM = "Expected more than 1 value per channel when training"  # torch's, of one sample before batch norm


def probe(model: nn.Module, batches: Batches, objective: Objective, recipe: Recipe, classes: int, taught: bool) -> None:
    """Train a copy of `model` for a step with the largest and one with the smallest batch that will come.

    ConfigError for what fails. A `taught` one is shown made-up logits of a teacher, who need not be there yet. Neither
    the model nor the random numbers that are drawn next are touched.
    """
    try:
        tried = copy.deepcopy(model)
    except Exception as error:  # a module may hold anything
        log.info("not tried beforehand, the network cannot be copied (%s)", first_line(error))
        return
    order, spec = batches.order(0), batches.split.samples.spec
    chosen = [max(order, key=len), min(order, key=len)]
    with _untouched(batches.device):
        tried.to(batches.device).train()
        flops = work_of(tried, batches.split.samples.spec).of_step(recipe.batch_size)
        precision = chosen_precision(recipe.precision, batches.device, flops)
        move = bare_step(recipe.build(tried, len(batches))[0])
        for batch in batches.shown(chosen if len(chosen[0]) > len(chosen[1]) else chosen[:1], 0):
            teacher = Answer(torch.randn(len(batch), classes, device=batches.device)) if taught else None
            batch = replace(batch, teacher=teacher)
            for part, _ in parts_of(batch, recipe.accumulate):
                _backward(tried, part, objective, precision, classes, spec)
            try:
                move()
            except Exception as error:  # an optimizer may be anybody's
                rule = "one that can make a step with this network"
                raise _refused(".train.optimizer", rule, error, "Choose another optimizer.") from error


def _backward(model: nn.Module, batch: Batch, objective: Objective, precision: str, classes: int, spec: Spec) -> None:
    n = len(batch)
    where = f"a network that can be trained on {n} {spec.noun} of {list(spec.shape)} at a time"
    try:
        with autocast(batch.labels.device, precision):
            logits = model(batch.inputs)
    except (KdError, OSError):  # a file or a service that fails is no misfit
        raise
    except Exception as error:  # a network may be anybody's
        raise _failed(where, n, error) from error
    check_logits(logits, n, classes, spec.noun)
    if not logits.requires_grad:
        raise must(".model", "a network whose logits depend on what it learns", Phrase("logits without gradient"))
    try:
        loss = _loss(objective, logits.float(), batch)
        loss.backward()
    except (KdError, OSError):
        raise
    except Exception as error:
        raise _failed(where, n, error) from error


def _loss(objective: Objective, logits: Tensor, batch: Batch) -> Tensor:
    """Return the loss that an objective gives; ConfigError where it gives none, for it may be anybody's."""
    rule = "one that gives named terms, `loss` among them, which is one number that depends on the logits"
    try:
        made: object = objective(Answer(logits), batch)
    except (KdError, OSError):
        raise
    except Exception as error:
        raise _refused("objective", rule, error) from error
    if isinstance(made, Tensor):
        raise must("objective", rule, Phrase(f"a tensor {list(made.shape)} by itself"))
    if not isinstance(made, Mapping) or "loss" not in made:
        names = ", ".join(map(str, made)) if isinstance(made, Mapping) else ""
        raise must("objective", rule, Phrase(f"only {names}" if names else repr(made)[:100]))
    loss = made["loss"]
    if not isinstance(loss, Tensor) or loss.ndim > 0 or not loss.requires_grad:
        got = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)[:100]
        raise must("objective", rule, Phrase(got))
    return loss


def _failed(rule: str, n: int, error: Exception) -> ConfigError:
    said = str(error)
    if BATCH_NORM in said:
        key, hint = ".train.batch_size", "Batch norm needs two: raise {}, or give it more samples."
        return must(key, "one that leaves no sample alone before batch norm", n, hint, key)
    if isinstance(error, RuntimeError) and out_of_memory(error):
        hint = "Lower it, or compute it in parts: {}=4."
        return must(".train.batch_size", "one that fits into memory", n, hint, ".train.accumulate")
    return _refused(".model", rule, error)


def _refused(key: str, rule: str, error: Exception, hint: str = "") -> ConfigError:
    said = f"{type(error).__name__}: {first_line(error)}"[:500].rstrip(".")
    return must(key, rule, Phrase(f"an error: {said}"), hint)


@contextmanager
def _untouched(device: torch.device) -> Iterator[None]:
    """Leave every random generator as it was."""
    plain, arrays = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)
