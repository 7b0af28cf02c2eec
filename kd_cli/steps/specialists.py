"""The specialists of a generalist: which classes each has, and the one way in which they are trained or found."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from kd_cli.build.identity import identity_of, plain
from kd_cli.build.objects import build_network, check_augment, instantiate, owner
from kd_cli.data.samples import Dataset
from kd_cli.data.splits import fingerprint
from kd_cli.errors import DataError, must
from kd_cli.measure import metrics
from kd_cli.measure.prediction import predict
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.progress import log
from kd_cli.runs.run import Run
from kd_cli.steps.recipes import recipe_identity
from kd_cli.steps.trained_model import train_and_store
from kd_cli.store.models import stored_node, use_of
from kd_cli.teachers.artifact import Stored
from kd_cli.teachers.checkpoint import Checkpoint
from kd_cli.teachers.specialists.clustering import confusable_sets
from kd_cli.teachers.specialists.covering import conditional, covering
from kd_cli.teachers.specialists.half_own import HalfOwn, relabelled
from kd_cli.teachers.specialists.network import Specialist, Specialists
from kd_cli.teachers.specialists.source import Specialists as Asked
from kd_cli.teachers.trained import Trained
from kd_cli.train.batches import Batches, derive
from kd_cli.train.probe import probe

VERSION = 2  # raised whenever kd trains other specialists from the same config, or combines them otherwise
DUSTBIN = "dustbin"


def check_specialists(run: Run, source: Asked, generalist: nn.Module) -> None:
    """Refuses before any work what would be refused once the generalist is trained."""
    dataset = run.dataset
    if dataset.train.labelled < len(dataset.train):
        raise DataError(f"{dataset.name}: {len(dataset.train) - dataset.train.labelled} training images have no label.")
    source.check(len(dataset.classes))
    check_augment(source.augment, dataset.spec, "teacher.augment")
    own = torch.arange(source.classes_each)
    seen = _seen_by(dataset, own)
    build, names = _constructor(_node(run, source)), dataset.classes
    network = build_network(lambda: _untrained(build, generalist, own, seen, names), "teacher.generalist", seen)
    with owner("teacher"):
        source.train.check(network, seen.validation)
        batches = Batches(seen.train, source.train.batch_size, source.seed, run.device, source.augment, source.seed)
        probe(network, batches, CrossEntropy(), source.train, len(seen.classes), taught=False)


def obtain_specialists(run: Run, source: Asked, generalist: nn.Module, identity: dict[str, Any]) -> Specialists:
    """Generalist and specialists as one network, each specialist trained, if the store does not hold it.

    The classes are clustered by what the generalist, which `identity` determines, predicts for the data set's transfer
    split, whatever the run makes of it.
    """
    predictions = predict(generalist, run.dataset.transfer, run.device).softmax(1)
    sets = confusable_sets(predictions, source.specialists, source.classes_each, source.seed)
    if len(sets) < source.specialists:
        log.info("%d clusters have only %d different sets of classes", source.specialists, len(sets))
    specialists = []
    for number, own in enumerate(sets, 1):
        log.info("specialist %d: %s", number, ", ".join(_named(run.dataset, own)))
        specialists.append(_obtain(run, source, generalist, identity, own, f"specialist_{number}"))
    run.precision["teacher"] = run.precision.get("generalist", "32")
    return Specialists(generalist, specialists, sets, source.top_n)


def _obtain(
    run: Run, source: Asked, generalist: nn.Module, identity: dict[str, Any], own: Tensor, title: str
) -> nn.Module:
    """The specialist for the classes `own`. Its identity is theirs, and not its place among the others."""
    seen, node = _seen_by(run.dataset, own), _node(run, source)
    for kind, missing in ((", ".join(seen.classes[:-1][:10]), seen.train.labels.min() == len(own)),
                          ("any other class", seen.train.labels.max() < len(own))):  # fmt: skip
        if missing:
            raise DataError(f"{seen.name}: {title} has no training images of {kind}.")
    seed = derive(source.seed, "specialist")
    batches = HalfOwn(seen.train, len(own), source.train.batch_size, seed, run.device, source.augment)
    model = _untrained(_constructor(node), generalist, own, seen, run.dataset.classes)
    model.correction[-1] = batches.over_sampling
    about = {
        "stage": "specialist",
        "version": VERSION,
        "model": identity_of(node),
        "generalist": identity,
        "train": recipe_identity(run.cfg.teacher.train, "teacher"),
        "augment": identity_of(run.cfg.teacher.get("augment")),
        "seed": source.seed,
        "data": fingerprint(seen.train),
        "classes": list(seen.classes),
    }
    if source.train.sees_validation and seen.validation is not None:
        about["validation"] = fingerprint(seen.validation)
    its = copy(run)
    its.dataset = seen
    with run.stage(title) as done:
        use = use_of(model)
        artifact = run.store.find("teachers", about, use)
        cached = artifact is not None
        if artifact is None:
            artifact = train_and_store(
                its, "teachers", "teacher", about, title, model, node, batches, CrossEntropy(), source.train, use
            )
        done(artifact, cached)
    return model.to(run.device).eval()


def specialists_figures(run: Run, network: nn.Module, logits: Tensor) -> dict[str, Any]:
    """What result.json says beside the figures of a combined teacher with these test logits; nothing of another."""
    if not isinstance(network, Specialists):
        return {}
    test, sets = run.dataset.test, network.sets.cpu()
    alone = predict(network.generalist, test, run.device)
    wrong, n = metrics.errors(alone, test.labels), len(test)
    return {
        "generalist": {"errors": wrong, "n": n, "accuracy": 1 - wrong / n, "nll": metrics.nll(alone, test.labels)},
        "covering": covering(alone, logits, test.labels, sets),
        "conditional": conditional(alone, logits, test.labels, sets),
        "sets": [[run.dataset.classes[k] for k in own] for own in sets.tolist()],
    }


def _seen_by(dataset: Dataset, own: Tensor) -> Dataset:
    """The data set as a specialist for these classes sees it."""
    classes = len(dataset.classes)
    train = relabelled(dataset.train, own, classes)
    validation = relabelled(dataset.validation, own, classes) if dataset.validation is not None else None
    names = tuple(dataset.classes[k] for k in own.tolist())
    return replace(dataset, train=train, validation=validation, classes=(*names, DUSTBIN))


def _node(run: Run, source: Asked) -> dict[str, Any]:
    """The config of a specialist: the generalist's network with other outputs."""
    generalist = source.generalist
    if isinstance(generalist, Stored):
        network = stored_node(Path(generalist.path))
    elif isinstance(generalist, Trained | Checkpoint):
        network = plain(run.cfg.teacher.generalist.model)
    else:
        hint = "Its specialists have its network, with other outputs. To choose one, write teacher.generalist=mlp_1200."
        raise must("teacher.generalist", "one whose network kd can build", type(generalist).__name__, hint)
    return {
        "_target_": "kd_cli.teachers.specialists.network.Specialist",
        "_partial_": True,
        "network": {**network, "_partial_": True},
    }


def _constructor(node: dict[str, Any]) -> Any:
    return instantiate(OmegaConf.create(node), "teacher.generalist.model")


def _untrained(build: Any, generalist: nn.Module, own: Tensor, seen: Dataset, classes: Sequence[str]) -> Specialist:
    model: Specialist = build(num_classes=len(seen.classes), spec=seen.spec)
    model.start_from(generalist, own.tolist(), len(classes))
    return model


def _named(dataset: Dataset, own: Tensor) -> list[str]:
    names = [dataset.classes[k] for k in own.tolist()]
    return names if len(names) <= 20 else [*names[:20], "…"]
