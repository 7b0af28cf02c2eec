"""The transfer set of a run: which samples, with which labels, in which views."""

import math
import shlex
from dataclasses import dataclass
from typing import Any

import torch

from kd_cli.build.objects import check_augment, try_augment
from kd_cli.data.augment import Augment
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import UNLABELLED, Dataset, Split
from kd_cli.data.splits import class_numbers, fraction_of, with_labels, without_classes
from kd_cli.errors import Phrase, must, under
from kd_cli.ranges import whole_number
from kd_cli.runs.session import Session
from kd_cli.steps.plan import DatasetPlan, TargetsPlan, TransferPlan
from kd_cli.targets.soft_targets import Storage, not_stated


@dataclass(frozen=True)
class TransferSet:
    """`views` is the number of stored views, or None where every epoch has a view of its own (an online teacher);
    `named` are the numbers of the classes that `transfer.omit_classes` or `transfer.only_classes` names; `labels` is
    what was asked for; `fingerprint` is that of another data set, where the samples come from one.
    """

    split: Split
    augment: Augment | Mix | None
    seed: int
    views: int | None
    identity: dict[str, Any]  # of samples and views; labels are not the teacher's business
    named: list[int]
    labels: Any
    fingerprint: str | None = None

    @property
    def foreign(self) -> bool:
        """Whether its samples are another data set's."""
        return self.fingerprint is not None

    @property
    def environment(self) -> dict[str, str]:
        """What result.json says of another data set's content."""
        return {} if self.fingerprint is None else {"transfer_fingerprint": self.fingerprint}


def transfer_set(plan: TransferPlan, dataset: Dataset, online: bool, session: Session) -> TransferSet:
    """Return the transfer set that was asked for; raise ConfigError for what this data set cannot give."""
    everything, foreign = dataset.transfer, None
    if plan.dataset is not None:
        foreign = _foreign(plan.dataset, dataset, session)
        everything = foreign.transfer
        if foreign.classes != dataset.classes:  # a class is known by its name: these labels mean nothing here
            everything = everything.with_labels(torch.full_like(everything.labels, UNLABELLED))
    split, named = _chosen(plan, everything, dataset.classes)
    split = with_labels(split, plan.labels, plan.seed, dataset.classes)
    augment: Augment | Mix | None = None
    views = plan.views if plan.augment is None or not online else None
    identity: dict[str, Any] = {"samples": split.samples.digest}
    if plan.augment is not None:
        augment = plan.augment.built
        check_augment(augment, dataset.spec, "transfer.augment")
        try_augment(augment, split, "transfer")
        identity |= {"augment": plan.augment.identity, "seed": plan.seed, "views": views}
    fingerprint = foreign.fingerprint if foreign is not None else None
    return TransferSet(split, augment, plan.seed, views, identity, named, plan.labels, fingerprint)


def _foreign(plan: DatasetPlan, dataset: Dataset, session: Session) -> Dataset:
    """The data set `transfer.dataset`; ConfigError unless its samples are such as the data set's."""
    with under("transfer"):
        foreign = plan.load(session)
    if foreign.spec != dataset.spec and foreign.spec.kind == dataset.spec.kind == "image":
        channels, height, width = dataset.spec.shape
        size = height if height == width else [height, width]
        fitting = {"channels": channels, "height": height, "width": width, "size": size}
        node = plan.config
        keys = [
            f"transfer.dataset.{key}={value}".replace(" ", "")
            for key, value in fitting.items()
            if node.get(key, value) != value
        ]
        raise must(
            "transfer.dataset",
            f"one with images of {list(dataset.spec.shape)}, as dataset={dataset.name} has",
            list(foreign.spec.shape),
            f"Set {' '.join(keys)}." if keys else "Choose another.",
        )
    if foreign.spec != dataset.spec:
        rule = f"one with {dataset.spec}, as dataset={dataset.name} has"
        raise must("transfer.dataset", rule, Phrase(str(foreign.spec)), "Choose another.")
    same = foreign.test.samples.digest == dataset.test.samples.digest
    if same and dataset.validation is not None and torch.isin(dataset.validation.index, foreign.transfer.index).any():
        hint = f"Its {dataset.spec.noun} set apart for validation would be learnt from. Set transfer.dataset=null."
        raise must("transfer.dataset", "another data set than dataset", foreign.name, hint)
    return foreign


def _chosen(plan: TransferPlan, split: Split, classes: tuple[str, ...]) -> tuple[Split, list[int]]:
    """The samples that `transfer.omit_classes`, `transfer.only_classes` and `transfer.fraction` leave, and the classes
    that the first two name.
    """
    filters, named = {"omit_classes": plan.omit_classes, "only_classes": plan.only_classes}, []
    asked = {name: value for name, value in filters.items() if value is not None}
    if len(asked) > 1:
        raise must("transfer.only_classes", "null where transfer.omit_classes is set", asked["only_classes"])
    for name, wanted in asked.items():
        if not isinstance(wanted, list):
            listed = shlex.quote(f"transfer.{name}=[{wanted}]")
            raise must(f"transfer.{name}", "a list of classes, or null", wanted, f"Write {listed}.")
        split = without_classes(split, f"transfer.{name}", wanted, classes, name == "omit_classes")
        named = class_numbers(f"transfer.{name}", wanted, classes)
    return fraction_of(split, plan.fraction, plan.seed, classes), named


def storage(plan: TargetsPlan, classes: int, few: int | None = None) -> Storage:
    """Return how the teacher's logits are stored; refuse what the run's own temperature could not read. One that tells
    `few` classes of a sample is stored as `targets.top_k` stores them.
    """
    top_k, stated, own = few if plan.top_k is None else plan.top_k, plan.temperatures, plan.temperature
    if top_k is None:
        return Storage(plan.dtype)
    whole_number("targets.top_k", top_k, 1, classes, why=", the number of classes,", null=True)
    if stated is None and own is not None:
        stated = [own]
    if not stated or not all(math.isfinite(each) and each > 0 for each in stated):
        known = "targets.top_k" if plan.top_k is not None else f"a teacher that tells {few} classes of each sample"
        hint = f"With {known} they are all that the targets can serve: 'targets.temperatures=[1,4]'."
        raise must("targets.temperatures", "a list of numbers > 0", stated, hint)
    temperatures = tuple(sorted(set(stated)))
    if own is not None and own not in temperatures:
        raise not_stated(temperatures, own)
    return Storage(plan.dtype, top_k, temperatures)
