"""The student and its baseline: what determines them, and the one way in which both are trained or found."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from kd_cli.checkpoint import HISTORY
from kd_cli.datasets.splits import fingerprint
from kd_cli.engine import Batches, Objective, Recipe, Targets, derive
from kd_cli.errors import must
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.stages.compose import build_network, identity_of, instantiate, owner, recipe_identity
from kd_cli.stages.run import Run
from kd_cli.stages.stored import load_weights
from kd_cli.stages.training import train_and_store
from kd_cli.stages.transfer import TransferSet
from kd_cli.types import Dataset, Split

VERSION = 2  # raised whenever kd trains another student from the same config


class Builder:
    """What the config of a job says of its student, for the student and for the baseline alike."""

    def __init__(self, cfg: DictConfig, dataset: Dataset) -> None:
        self.cfg, self.dataset = cfg, dataset
        self.objective: Objective = instantiate(cfg.objective, "objective")
        with owner("student"):
            self.recipe: Recipe = instantiate(cfg.student.train, "student.train")
            self._constructor = instantiate(cfg.student.model, "student.model")

    def model(self) -> nn.Module:
        """The untrained network: the same weights for the same seed."""
        torch.manual_seed(derive(self.cfg.seed, "initialisation"))
        arguments = {"num_classes": len(self.dataset.classes), "input_shape": self.dataset.input_shape}
        return build_network(lambda: self._constructor(**arguments), "student", self.dataset)

    def check(self, transfer: TransferSet) -> None:
        """ConfigError where the hard term has no labels to learn from."""
        if self.cfg.hard_weight > 0 and not transfer.split.labelled:
            if self.cfg.transfer.dataset is not None:
                found = f"choose a transfer.dataset with labels of the classes of dataset={self.dataset.name}"
            elif self.cfg.transfer.labels != "all":
                found = "set transfer.labels=all"
            else:
                found = "sort the images into transfer/<class>/"
            hint = f"Set hard_weight=0, or {found}."
            raise must("hard_weight", "0 for a transfer set without labels", self.cfg.hard_weight, hint)

    def student(self, run: Run, transfer: TransferSet, targets: Targets, targets_identity: dict[str, Any]) -> "Plan":
        """How the student is trained."""
        identity = {"objective": identity_of(self.cfg.objective), "targets": targets_identity}
        return self._plan(run, transfer, transfer.split, identity, self.objective, targets)

    def baseline(self, run: Run, transfer: TransferSet, split: Split) -> "Plan":
        """How the baseline is trained: on the transfer set's views of `split`, without a teacher."""
        return self._plan(run, transfer, split, {"objective": "cross-entropy"}, CrossEntropy(), None)

    def _plan(
        self, run: Run, transfer: TransferSet, split: Split, identity: dict[str, Any],
        objective: Objective, targets: Targets | None,
    ) -> "Plan":  # fmt: skip
        cfg, recipe = self.cfg, self.recipe
        identity = {**student_identity(cfg, recipe, self.dataset, transfer, split), **identity}
        views = (transfer.augment, transfer.seed, transfer.views)
        batches = Batches(split, recipe.batch_size, cfg.seed, run.device, *views, targets)
        return Plan(self, identity, batches, objective)


@dataclass(frozen=True)
class Plan:
    """How a student or a baseline is trained, and the identity under which the store keeps it."""

    builder: Builder
    identity: dict[str, Any]
    batches: Batches
    objective: Objective


def obtain_student(run: Run, role: str, model: nn.Module, plan: Plan) -> str:
    """Trains the untrained `model`, or finds its weights; returns its artifact's name."""
    with run.stage(role) as done:
        artifact = run.store.find("students", plan.identity)
        cached = artifact is not None
        if artifact is None:
            node, recipe = plan.builder.cfg.student.model, plan.builder.recipe
            artifact = train_and_store(
                run, "students", "student", plan.identity, role, model, node, plan.batches, plan.objective, recipe
            )
        load_weights(model, artifact)
        model.to(run.device).eval()
        done(artifact, cached)
    return run.name(artifact.folder)


def train_accuracy(folder: Path, recipe: Recipe) -> float | None:
    """The share of labelled samples that the epoch got right whose weights were kept, counted in its steps.

    None where the transfer set has no labels.
    """
    epochs: list[dict[str, float]] = [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]
    kept = epochs[-1]
    if recipe.select == "best_validation":
        kept = max(epochs, key=lambda epoch: epoch["validation_accuracy"])  # the first of the best
    return kept.get("train_accuracy")


def student_identity(
    cfg: DictConfig, recipe: Recipe, dataset: Dataset, transfer: TransferSet, split: Split
) -> dict[str, Any]:
    """What determines the weights of student and baseline alike; the objective and its targets come to it."""
    identity = {
        "stage": "student",
        "version": VERSION,
        "model": identity_of(cfg.student.model),
        "train": recipe_identity(cfg.student.train),
        "seed": cfg.seed,
        "data": fingerprint(split),
        "views": {key: value for key, value in transfer.identity.items() if key != "images"},
        "classes": list(dataset.classes),
    }
    if recipe.select == "best_validation" and dataset.validation is not None:
        identity["validation"] = fingerprint(dataset.validation)
    return identity
