"""The student and its baseline: what determines them, and how both are trained alike."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd_cli.build.identity import Described
from kd_cli.build.objects import build_network
from kd_cli.data.samples import Dataset, Split
from kd_cli.data.splits import fingerprint
from kd_cli.errors import ArtifactError, must, under
from kd_cli.files.digests import as_read
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.steps.plan import StudentPlan
from kd_cli.steps.recipes import recipe_identity, start
from kd_cli.steps.setting import Setting
from kd_cli.steps.targets import Taught
from kd_cli.steps.trained_model import TrainedModel
from kd_cli.steps.transfer import TransferSet
from kd_cli.store.artifacts import read_artifact
from kd_cli.store.models import history_of
from kd_cli.train.batches import Batches, derive
from kd_cli.train.class_weights import class_weights
from kd_cli.train.fit import Objective
from kd_cli.train.probe import probe
from kd_cli.train.recipe import Recipe

VERSION = 3  # raised whenever kd trains another student from the same config
ALONE: Described[Objective] = Described(CrossEntropy(), "cross-entropy")  # what a baseline learns by


@dataclass(frozen=True)
class Pair:
    """A student and its baseline, as they are to be trained on a transfer set."""

    plan: StudentPlan
    transfer: TransferSet
    setting: Setting

    @property
    def seed(self) -> int:
        """What order, dropout and initialisation derive from: the same for both, so that they are paired."""
        return derive(self.plan.seed, "student")

    def student(self, taught: Taught, network: nn.Module | None = None) -> TrainedModel:
        """Return the step that trains the student."""
        identity = {"objective": self.plan.objective.identity, "targets": taught.identity}
        return self._training("student", network, self.transfer.split, self.plan.objective, identity, taught)

    def baseline(self) -> TrainedModel:
        """Return the step that trains the baseline: on the transfer set's views, without a teacher."""
        return self._training("baseline", None, self.baseline_split, ALONE, {"objective": "cross-entropy"}, None)

    @property
    def baseline_split(self) -> Split:
        """What the baseline learns from: the transfer set, or the training split where that has no labels."""
        return self.transfer.split if self.transfer.split.labelled else self.setting.dataset.train

    def check(self) -> None:
        """Raise ConfigError where the hard term has no labels to learn from."""
        plan, transfer, dataset = self.plan, self.transfer, self.setting.dataset
        if plan.baseline and not self.baseline_split.labelled:
            hint = "There is nothing that it could learn from without the teacher."
            raise must("baseline", f"false for dataset={dataset.name}, which has no labels", True, hint)
        if plan.hard_weight > 0 and not transfer.split.labelled:
            if transfer.foreign:
                found = f"choose a transfer.dataset with labels of the classes of dataset={dataset.name}"
            elif transfer.labels != "all":
                found = "set transfer.labels=all"
            else:
                found = f"sort the {dataset.spec.noun} into transfer/<class>/"
            hint = f"Set hard_weight=0, or {found}."
            raise must("hard_weight", "0 for a transfer set without labels", plan.hard_weight, hint)

    def try_out(self, model: nn.Module) -> None:
        """Raise ConfigError for what would fail only while the student or its baseline is trained."""
        plan, setting, learns = self.plan, self.setting, self.baseline_split
        classes, spec = len(setting.dataset.classes), setting.dataset.spec.stored()
        tried = [(self.transfer.split, plan.objective, True)]
        if plan.baseline and learns is not self.transfer.split:
            tried.append((learns, ALONE, False))
        about = [plan.model.identity, plan.recipe.identity, plan.objective.config["_target_"]]
        with under("student"):
            for split, objective, taught in tried:
                batches = self._batches(split, None)
                step = partial(probe, model, batches, objective.built, plan.recipe.built, classes, taught)
                setting.session.once(["probe", *about, taught, spec, len(split)], step)
        if plan.baseline and plan.recipe.built.start_from is not None:
            untrained(plan, setting.dataset, "baseline")

    def _training(
        self, role: str, network: nn.Module | None, split: Split, objective: Described[Objective],
        identity: dict[str, Any], taught: Taught | None,
    ) -> TrainedModel:  # fmt: skip
        plan, dataset = self.plan, self.setting.dataset
        identity = {**student_identity(plan, dataset, self.transfer, split, role), **identity}
        return TrainedModel(
            kind="students",
            stage=role,
            key="student",
            network=untrained(plan, dataset, role) if network is None else network,
            config=plan.model.config,
            dataset=dataset,
            batches=self._batches(split, taught),
            objective=objective,
            recipe=plan.recipe.built,
            identity=identity,
            setting=self.setting,
            deps=taught.deps if taught else (),
        )

    def _batches(self, split: Split, taught: Taught | None) -> Batches:
        transfer, recipe = self.transfer, self.plan.recipe.built
        with under("student"):
            weights = class_weights(recipe.class_weights, split, self.setting.dataset.classes)
        views = (transfer.augment, transfer.seed, transfer.views)
        targets, untold = (taught.targets, taught.untold) if taught else (None, False)
        return Batches(split, recipe.batch_size, self.seed, self.setting.device, *views, targets, weights, untold)


def untrained(plan: StudentPlan, dataset: Dataset, role: str = "student") -> nn.Module:
    """Return the network before its training: the same weights for the same seed, or those it is to start from."""
    torch.manual_seed(derive(derive(plan.seed, "student"), "initialisation"))
    model, classes = plan.model.built, len(dataset.classes)
    arguments = dataset.arguments(model)
    network = build_network(lambda: model(num_classes=classes, **arguments), "student", dataset)
    with under("student"):
        start(network, plan.recipe.built, role, classes)
    return network


def begins_as(teacher: Path, identity: dict[str, Any]) -> bool:
    """Return whether a stored teacher was itself a student of this network and seed."""
    try:
        its = read_artifact(teacher).manifest["identity"]
        return all(its[key] == as_read(identity)[key] for key in ("stage", "model", "seed"))
    except (ArtifactError, KeyError, TypeError):
        return False


def train_accuracy(folder: Path, recipe: Recipe) -> float | None:
    """Return the share of labelled samples that the epoch got right whose weights were kept, counted in its steps; None
    where the transfer set has no labels.
    """
    epochs = history_of(read_artifact(folder))
    kept = epochs[-1]
    if recipe.select == "best_validation":
        kept = max(epochs, key=lambda epoch: epoch.get("validation_accuracy", -1))  # the first of the best
    return kept.get("train_accuracy")


def student_identity(
    plan: StudentPlan, dataset: Dataset, transfer: TransferSet, split: Split, role: str
) -> dict[str, Any]:
    """Return what determines the weights of student and baseline alike; the objective and its targets come to it."""
    identity = {
        "stage": "student",
        "version": VERSION,
        "model": plan.model.identity,
        "train": recipe_identity(plan.recipe.config, role),
        "seed": plan.seed,
        "data": fingerprint(split),
        "views": {key: value for key, value in transfer.identity.items() if key != "samples"},
        "classes": list(dataset.classes),
    }
    if dataset.spec.kind == "text":  # its tokenizer is trained on them, whatever the transfer set is
        identity["texts"] = dataset.train.samples.digest
    if plan.recipe.built.sees_validation and dataset.validation is not None:
        identity["validation"] = fingerprint(dataset.validation)
    return identity
