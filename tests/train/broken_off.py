"""A training that can be broken off."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from watching import Seen

from kd_cli.data.augment import Shift
from kd_cli.data.samples import Split
from kd_cli.models.mlp import mlp
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.store.history import HISTORY
from kd_cli.train.batches import Batches
from kd_cli.train.checkpoint import Checkpoint
from kd_cli.train.fit import fit
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import cosine

CPU = torch.device("cpu")
EPOCHS = 6


class Stop(Exception):
    """The plug is pulled."""


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, amsgrad=True)


def small() -> nn.Module:
    return mlp(10, (1, 8, 8), widths=[24], dropout=0.5)


def keep(folder: Path, every_epochs: int | None = 1, **environment: object) -> Checkpoint:
    return Checkpoint(folder, "student", EPOCHS, every_epochs, None, {"device": "cpu", **environment})


def train(
    folder: Path,
    images: Split,
    validation: Split | None = None,
    build: Callable[[], nn.Module] = small,
    stop: int | None = None,
    checkpoint: Checkpoint | None = None,
    strike: tuple[int, int, int] | None = None,
    compile: bool = False,
    **recipe: object,
) -> nn.Module:
    """Trains in `folder` as a stage does; with `stop` it breaks off in the epoch after so many, amid its steps; with
    `strike` a signal comes in this step of this epoch.
    """
    torch.manual_seed(0)
    model = build()
    rule = Recipe(**{"epochs": EPOCHS, "batch_size": 32, "optimizer": sgd, "scheduler": cosine} | recipe)

    def on_epoch(record: dict[str, float]) -> None:
        del record["samples_per_second"]
        history.write(json.dumps(record) + "\n")

    def on_step(epoch: int, step: int) -> None:
        if (epoch, step) == (stop, 2):
            raise Stop
        if strike and (epoch, step) == strike[:2]:
            os.kill(os.getpid(), strike[2])

    folder.mkdir(exist_ok=True)
    checkpoint = checkpoint or keep(folder)
    with (folder / HISTORY).open("a", buffering=1) as history:
        fit(
            model,
            Batches(images, 32, 5, CPU, Shift(1), 3),
            CrossEntropy(),
            rule,
            validation,
            compile,
            checkpoint=checkpoint,
            watch=Seen(on_step, on_epoch),
        )
    return model


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the checkpoint."""
    return [record.getMessage() for record in caplog.records if record.name == "kd" and record.module == "checkpoint"]


def same(left: nn.Module, right: nn.Module) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
