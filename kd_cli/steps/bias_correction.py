"""The student with another output bias: an artifact of its own, made from the student's and from one split."""

from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.data.samples import Dataset, Split
from kd_cli.data.splits import fingerprint
from kd_cli.errors import must
from kd_cli.measure.bias_correction import best_shift, output_bias, prior_shift
from kd_cli.measure.prediction import predict
from kd_cli.progress import log
from kd_cli.steps.setting import Setting
from kd_cli.steps.trained_model import TrainedModel, write_model
from kd_cli.store.artifacts import Artifact
from kd_cli.store.models import largest_of, load_weights, precision_of
from kd_cli.store.step import name_of, obtain

VERSION = 1  # raised whenever kd finds another bias for the same student
SPLIT = {"prior": "train", "oracle": "test"}  # what a rule looks at


def check_correction(rule: str | None, dataset: Dataset, student: nn.Module, named: list[int]) -> None:
    """Raise ConfigError where `bias_correction` asks for what this student, data set or transfer set cannot have."""
    if rule is None:
        return
    if output_bias(student, dataset.spec.blank(2), len(dataset.classes)) is None:
        hint = "Choose a student whose last layer has one."
        raise must("bias_correction", "null for a student without an output bias", rule, hint)
    if rule == "oracle" and len(named) == len(dataset.classes):
        raise must("bias_correction", "prior or null where every class is named: one shift of all is none", rule)
    counts = dataset.train.labels.bincount(minlength=len(dataset.classes))
    if rule == "prior" and not counts.all():
        empty = ", ".join(dataset.classes[k] for k in (counts == 0).nonzero()[:10, 0].tolist())
        raise must(
            "bias_correction",
            f"null where a class has no training {dataset.spec.noun}",
            rule,
            f"There are none of {empty}.",
        )


@dataclass(frozen=True)
class Correction:
    """The step that shifts the output bias of `student`, which `trained` gave, in a copy of it, `network`.

    `prior` shifts every class, `oracle` those that are `named`, all alike. On 10,000 validation images of MNIST, with a
    teacher and students of 15 epochs (2 × 800; the transfer set without 3, without 8, of 7 and 8 alone, of 0 to 4
    alone; 2 seeds each), `prior` left fewer errors by shifting every class than by shifting the named ones in 6 of 8
    cases, as many in one and 2 more in one: 721 and 708 instead of 784 and 784 with 7 and 8 alone, 253 and 275 instead
    of 298 and 308 with 0 to 4 alone.
    """

    rule: str
    named: list[int]
    trained: TrainedModel
    student: nn.Module
    network: nn.Module
    bias: Tensor  # of `network`
    precision: str  # that the student was trained in
    setting: Setting
    kind: str = "students"
    stage: str = "bias_correction"

    @property
    def split(self) -> Split:
        """What the rule looks at."""
        return self.setting.dataset.train if SPLIT[self.rule] == "train" else self.setting.dataset.test

    @property
    def identity(self) -> dict[str, Any]:
        """The student's, the rule, and what it looks at."""
        about = {"rule": self.rule, "version": VERSION, "data": fingerprint(self.split)}
        named = {"classes": self.named} if self.rule == "oracle" else {}
        return {**self.trained.identity, "bias_correction": about | named}

    @property
    def deps(self) -> tuple[str, ...]:
        """The student that it corrects."""
        return (name_of(self.trained),)

    @property
    def title(self) -> str:
        """The student and the rule."""
        return f"{self.trained.title}, bias by {self.rule}"

    @property
    def largest(self) -> int:
        """See `Step`."""
        return largest_of(self.network)

    def make(self, folder: Path, ends: ExitStack) -> dict[str, Any]:
        """Shift the bias by what the rule finds, and write the model."""
        dataset, split = self.setting.dataset, self.split
        logits = predict(self.student, split, self.setting.device)
        if self.rule == "prior":
            counts = split.labels.bincount(minlength=len(dataset.classes))
            shift = prior_shift(logits, counts.double() / len(split))
        else:
            shift = best_shift(logits, split.labels, self.named)
        with torch.no_grad():
            self.bias.add_(shift.to(self.bias))
        config, its = self.trained.config, self.setting.dataset_config
        write_model(folder, self.identity, self.network, config, dataset, its)
        return {"environment": self.setting.circumstances.environment(self.precision)}

    def load(self, artifact: Artifact) -> None:
        """Fill the network with stored weights."""
        precision_of(artifact)
        load_weights(self.network, artifact)


def obtain_corrected(
    rule: str, trained: TrainedModel, student: nn.Module, named: list[int], setting: Setting
) -> tuple[nn.Module, str, dict[str, Any]]:
    """Return the corrected student, its artifact's name, and what result.json says of the rule and of the shifts."""
    dataset, corrected = setting.dataset, deepcopy(student)
    blank = dataset.spec.blank(2, setting.device)
    bias = output_bias(corrected, blank, len(dataset.classes))
    if bias is None:  # training has taken it away
        raise must("bias_correction", "null for a student without an output bias", rule)
    before = bias.detach().double().clone()
    precision = setting.run.precision["student"]
    step = Correction(rule, named, trained, student, corrected, bias, precision, setting)
    obtain(step, setting.store, setting.run)
    corrected.to(setting.device).eval()
    moved = (bias.detach().double() - before).tolist()
    shifts = {name: round(value, 6) for name, value in zip(dataset.classes, moved, strict=True)}
    shown = ", ".join(f"{name} {value:+.2f}" for name, value in list(shifts.items())[:10])
    warning = " Chosen on the test set." if SPLIT[rule] == "test" else ""
    log.info("output bias shifted by %s%s.%s", shown, ", …" if len(shifts) > 10 else "", warning)
    return corrected, name_of(step), {"rule": rule, "selected_on": SPLIT[rule], "shift": shifts}
