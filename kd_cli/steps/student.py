"""The student and its baseline: what determines them, and the one way in which both are trained or found."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from kd_cli.build.identity import identity_of
from kd_cli.build.objects import build_network, instantiate, owner
from kd_cli.data.samples import Dataset, Split
from kd_cli.data.splits import fingerprint
from kd_cli.errors import ArtifactError, must
from kd_cli.files.digests import as_read
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.runs.run import Run, shared
from kd_cli.steps.recipes import recipe_identity, start
from kd_cli.steps.trained_model import train_and_store
from kd_cli.steps.transfer import TransferSet
from kd_cli.store.artifacts import read_artifact
from kd_cli.store.models import history_of, use_of
from kd_cli.train.batches import Batches, Targets, derive
from kd_cli.train.class_weights import class_weights
from kd_cli.train.fit import Objective
from kd_cli.train.probe import probe
from kd_cli.train.recipe import Recipe

VERSION = 3  # raised whenever kd trains another student from the same config


class Builder:
    """What the config of a job says of its student, for the student and for the baseline alike."""

    def __init__(self, cfg: DictConfig, dataset: Dataset) -> None:
        self.cfg, self.dataset = cfg, dataset
        self.seed = derive(cfg.seed, "student")  # of the baseline too: the two are paired
        self.objective: Objective = instantiate(cfg.objective, "objective")
        with owner("student"):
            self.recipe: Recipe = instantiate(cfg.student.train, "student.train")
            self._constructor = instantiate(cfg.student.model, "student.model")

    def model(self, role: str = "student") -> nn.Module:
        """The network before its training: the same weights for the same seed, or those it is to start from."""
        torch.manual_seed(derive(self.seed, "initialisation"))
        spec = self.dataset.spec
        arguments = {"num_classes": len(self.dataset.classes), **spec.arguments(self._constructor)}
        network = build_network(lambda: self._constructor(**arguments), "student", self.dataset)
        with owner("student"):
            start(network, self.recipe, role)
        return network

    def try_out(self, run: Run, model: nn.Module, transfer: TransferSet) -> None:
        """ConfigError for what would fail only while the student or its baseline is trained."""
        cfg, learns, classes = self.cfg, self.baseline_split(transfer), len(self.dataset.classes)
        tried = [(transfer.split, self.objective, True)]
        if cfg.baseline and learns is not transfer.split:
            tried.append((learns, CrossEntropy(), False))
        about = [identity_of(cfg.student.model), identity_of(cfg.student.train), cfg.objective.get("_target_")]
        with owner("student"):
            for split, objective, taught in tried:
                batches = self._batches(run, transfer, split, None)
                step = partial(probe, model, batches, objective, self.recipe, classes, taught)
                shared(["probe", *about, taught, self.dataset.spec.stored(), len(split)], step)
        if cfg.baseline and self.recipe.start_from is not None:
            self.model("baseline")

    def baseline_split(self, transfer: TransferSet) -> Split:
        """What the baseline learns from: the transfer set, or the training split where that has no labels."""
        return transfer.split if transfer.split.labelled else self.dataset.train

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

    def baseline(self, run: Run, transfer: TransferSet) -> "Plan":
        """How the baseline is trained: on the transfer set's views, without a teacher."""
        identity = {"objective": "cross-entropy"}
        return self._plan(run, transfer, self.baseline_split(transfer), identity, CrossEntropy(), None)

    def _plan(
        self, run: Run, transfer: TransferSet, split: Split, identity: dict[str, Any],
        objective: Objective, targets: Targets | None,
    ) -> "Plan":  # fmt: skip
        role = "student" if objective is self.objective else "baseline"
        identity = {**student_identity(self.cfg, self.recipe, self.dataset, transfer, split, role), **identity}
        return Plan(self, identity, self._batches(run, transfer, split, targets), objective)

    def _batches(self, run: Run, transfer: TransferSet, split: Split, targets: Targets | None) -> Batches:
        with owner("student"):
            weights = class_weights(self.recipe.class_weights, split, self.dataset.classes)
        views = (transfer.augment, transfer.seed, transfer.views)
        return Batches(split, self.recipe.batch_size, self.seed, run.device, *views, targets, weights)


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
        use = use_of(model)
        artifact = run.store.find("students", plan.identity, use)
        cached = artifact is not None
        if artifact is None:
            node, recipe = plan.builder.cfg.student.model, plan.builder.recipe
            artifact = train_and_store(
                run, "students", "student", plan.identity, role, model, node, plan.batches, plan.objective, recipe, use
            )
        model.to(run.device).eval()
        done(artifact, cached)
    return run.name(artifact.folder)


def begins_as(teacher: Path, identity: dict[str, Any]) -> bool:
    """Whether a stored teacher was itself a student of this network and seed."""
    try:
        its = read_artifact(teacher).manifest["identity"]
        return all(its[key] == as_read(identity)[key] for key in ("stage", "model", "seed"))
    except (ArtifactError, KeyError, TypeError):
        return False


def train_accuracy(folder: Path, recipe: Recipe) -> float | None:
    """The share of labelled samples that the epoch got right whose weights were kept, counted in its steps.

    None where the transfer set has no labels.
    """
    epochs = history_of(read_artifact(folder))
    kept = epochs[-1]
    if recipe.select == "best_validation":
        kept = max(epochs, key=lambda epoch: epoch.get("validation_accuracy", -1))  # the first of the best
    return kept.get("train_accuracy")


def student_identity(
    cfg: DictConfig, recipe: Recipe, dataset: Dataset, transfer: TransferSet, split: Split, role: str = "student"
) -> dict[str, Any]:
    """What determines the weights of student and baseline alike; the objective and its targets come to it."""
    identity = {
        "stage": "student",
        "version": VERSION,
        "model": identity_of(cfg.student.model),
        "train": recipe_identity(cfg.student.train, role),
        "seed": cfg.seed,
        "data": fingerprint(split),
        "views": {key: value for key, value in transfer.identity.items() if key != "samples"},
        "classes": list(dataset.classes),
    }
    if recipe.sees_validation and dataset.validation is not None:
        identity["validation"] = fingerprint(dataset.validation)
    return identity
