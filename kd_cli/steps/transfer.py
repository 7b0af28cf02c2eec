"""The transfer set of a run: which samples, with which labels, in which views."""

import math
import shlex
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from kd_cli.build.identity import identity_of, plain
from kd_cli.build.objects import check_augment, instantiate, owner
from kd_cli.data.augment import Augment
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import UNLABELLED, Dataset, Split
from kd_cli.data.splits import class_numbers, fraction_of, with_labels, without_classes
from kd_cli.errors import must
from kd_cli.runs.run import dataset_of
from kd_cli.targets.soft_targets import Storage, not_stated


@dataclass(frozen=True)
class TransferSet:
    """`views` is the number of stored views, or None where every epoch has a view of its own (an online teacher);
    `named` are the numbers of the classes that `transfer.omit_classes` or `transfer.only_classes` names; `environment`
    is what result.json says of another data set's content.
    """

    split: Split
    augment: Augment | Mix | None
    seed: int
    views: int | None
    identity: dict[str, Any]  # of samples and views; labels are not the teacher's business
    named: list[int]
    environment: dict[str, str]


def transfer_set(cfg: DictConfig, dataset: Dataset, online: bool) -> TransferSet:
    """The transfer set that `cfg` (the node `transfer`) describes."""
    views = cfg.views
    if isinstance(views, bool) or not isinstance(views, int) or views < 1:
        raise must("transfer.views", "a whole number ≥ 1", views)
    with owner("transfer"):
        augment = instantiate(cfg.augment, "transfer.augment") if cfg.augment is not None else None
    check_augment(augment, dataset.spec, "transfer.augment")
    if augment is None and views > 1:
        hint = "Choose one: augment@transfer.augment=jitter."
        raise must("transfer.views", "1 where transfer.augment is null", views, hint)
    if online and views > 1:
        raise must("transfer.views", "1 with teacher.online=true, where each epoch has a view of its own", views)
    everything, environment = dataset.transfer, {}
    if cfg.dataset is not None:
        foreign = _foreign(cfg.dataset, dataset)
        everything, environment = foreign.transfer, {"transfer_fingerprint": foreign.fingerprint}
        if foreign.classes != dataset.classes:  # a class is known by its name: these labels mean nothing here
            everything = everything.with_labels(torch.full_like(everything.labels, UNLABELLED))
    split, named = _chosen(cfg, everything, dataset.classes)
    split = with_labels(split, cfg.labels, cfg.seed, dataset.classes)
    identity: dict[str, Any] = {"samples": split.samples.digest}
    if augment is not None:
        identity |= {"augment": identity_of(cfg.augment), "seed": cfg.seed, "views": None if online else views}
    stored = None if online and augment is not None else views
    return TransferSet(split, augment, cfg.seed, stored, identity, named, environment)


def _foreign(node: DictConfig, dataset: Dataset) -> Dataset:
    """The data set `transfer.dataset`; ConfigError unless its samples are such as the data set's."""
    with owner("transfer"):
        foreign = dataset_of(node, "transfer.dataset")
    if foreign.spec != dataset.spec and foreign.spec.kind == dataset.spec.kind == "image":
        channels, height, width = dataset.spec.shape
        fitting = {"channels": channels, "height": height, "width": width, "size": height}
        keys = [f"transfer.dataset.{key}={value}" for key, value in fitting.items() if node.get(key, value) != value]
        raise must(
            "transfer.dataset",
            f"one with images of {list(dataset.spec.shape)}, as dataset={dataset.name} has",
            list(foreign.spec.shape),
            f"Set {' '.join(keys)}." if keys else "Choose another.",
        )
    if foreign.spec != dataset.spec:
        rule = f"one with {dataset.spec}, as dataset={dataset.name} has"
        raise must("transfer.dataset", rule, str(foreign.spec), "Choose another.")
    same = foreign.test.samples.digest == dataset.test.samples.digest
    if same and dataset.validation is not None and torch.isin(dataset.validation.index, foreign.transfer.index).any():
        hint = "Its images set apart for validation would be learnt from. Set transfer.dataset=null."
        raise must("transfer.dataset", "another data set than dataset", foreign.name, hint)
    return foreign


def _chosen(cfg: DictConfig, split: Split, classes: tuple[str, ...]) -> tuple[Split, list[int]]:
    """The samples that `transfer.omit_classes`, `transfer.only_classes` and `transfer.fraction` leave, and the classes
    that the first two name.
    """
    filters, named = ("omit_classes", "only_classes"), []
    asked = {name: plain(cfg[name]) for name in filters if cfg[name] is not None}
    if len(asked) > 1:
        raise must("transfer.only_classes", "null where transfer.omit_classes is set", asked["only_classes"])
    for name, wanted in asked.items():
        if not isinstance(wanted, list):
            listed = shlex.quote(f"transfer.{name}=[{wanted}]")
            raise must(f"transfer.{name}", "a list of classes, or null", wanted, f"Write {listed}.")
        split = without_classes(split, f"transfer.{name}", wanted, classes, name == "omit_classes")
        named = class_numbers(f"transfer.{name}", wanted, classes)
    return fraction_of(split, cfg.fraction, cfg.seed, classes), named


def storage(cfg: DictConfig, classes: int) -> Storage:
    """How `cfg.targets` has the teacher's logits stored; refuses what the run's own temperature could not read."""
    top_k, stated, own = cfg.targets.top_k, cfg.targets.temperatures, cfg.get("temperature")
    if top_k is None:
        return Storage(cfg.targets.dtype)
    if not 1 <= top_k <= classes:
        raise must("targets.top_k", f"a whole number from 1 to {classes}, the number of classes, or null", top_k)
    if stated is None and own is not None:
        stated = [own]
    if not stated or not all(math.isfinite(each) and each > 0 for each in stated):
        hint = "With targets.top_k they are all that the targets can serve: 'targets.temperatures=[1,4]'."
        raise must("targets.temperatures", "a list of numbers > 0", plain(stated), hint)
    temperatures = tuple(sorted(set(stated)))
    if own is not None and own not in temperatures:
        raise not_stated(temperatures, own)
    return Storage(cfg.targets.dtype, top_k, temperatures)
