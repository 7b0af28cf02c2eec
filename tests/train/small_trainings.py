"""Trainings short enough to compare bit by bit."""

import torch
from torch import nn
from watching import Seen

from kd_cli.data.samples import Split
from kd_cli.models.mlp import mlp
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit
from kd_cli.train.recipe import Recipe


def net() -> nn.Module:
    torch.manual_seed(0)
    return mlp(10, (1, 8, 8), widths=[24])


def history(
    model: nn.Module, batches: Batches, rule: Recipe, validation: Split | None = None
) -> list[dict[str, float]]:
    records: list[dict[str, float]] = []
    objective = CrossEntropy() if batches.targets is None else Hinton(4.0, 0.5, 0.5)
    fit(model, batches, objective, rule, validation, watch=Seen(epoch=records.append))
    for record in records:
        del record["samples_per_second"]
    return records
