"""The specialists of a generalist: which classes each has, and the one way in which they are trained or found."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.build.identity import Described, identity_of
from kd_cli.build.objects import build_network, check_augment, instantiate, try_augment
from kd_cli.data.samples import Dataset
from kd_cli.data.splits import fingerprint
from kd_cli.errors import DataError, must, under
from kd_cli.measure import metrics
from kd_cli.measure.figures import Conditional, Covering, Scores
from kd_cli.measure.prediction import predict
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.progress import log
from kd_cli.steps.plan import TeacherPlan
from kd_cli.steps.recipes import recipe_identity
from kd_cli.steps.setting import Setting
from kd_cli.steps.trained_model import TrainedModel
from kd_cli.store.models import stored_node
from kd_cli.store.step import obtain
from kd_cli.teachers.artifact import Stored
from kd_cli.teachers.checkpoint import Pretrained
from kd_cli.teachers.specialists.clustering import confusable_sets
from kd_cli.teachers.specialists.covering import conditional, covering
from kd_cli.teachers.specialists.half_own import HalfOwn, relabelled
from kd_cli.teachers.specialists.network import Specialist, SpecialistEnsemble
from kd_cli.teachers.specialists.source import Specialists as Asked
from kd_cli.teachers.trained import Trained
from kd_cli.train.batches import Batches, derive
from kd_cli.train.probe import probe

VERSION = 2  # raised whenever kd trains other specialists from the same config, or combines them otherwise
DUSTBIN = "dustbin"


def check_specialists(plan: TeacherPlan, setting: Setting, generalist: nn.Module) -> None:
    """Refuse before any work what would be refused once the generalist is trained."""
    source, dataset = _source(plan), setting.dataset
    if dataset.train.labelled < len(dataset.train):
        unlabelled = f"{len(dataset.train) - dataset.train.labelled} training {dataset.spec.noun}"
        raise DataError(f"{dataset.name}: {unlabelled} have no label.")
    source.check(len(dataset.classes))
    check_augment(source.augment, dataset.spec, "teacher.augment")
    try_augment(source.augment, dataset.train, "teacher")
    own = torch.arange(source.classes_each)
    seen = _seen_by(dataset, own)
    build, names = _constructor(_config(plan)), dataset.classes
    network = build_network(lambda: _untrained(build, generalist, own, seen, names), "teacher.generalist", seen)
    with under("teacher"):
        source.train.check(network, seen.validation)
        batches = Batches(seen.train, source.train.batch_size, source.seed, setting.device, source.augment, source.seed)
        probe(network, batches, CrossEntropy(), source.train, len(seen.classes), taught=False)


def obtain_specialists(
    plan: TeacherPlan, setting: Setting, generalist: nn.Module, identity: dict[str, Any], name: str | None
) -> SpecialistEnsemble:
    """Return generalist and specialists as one network, each specialist trained, if the store does not hold it.

    `identity` determines the generalist, `name` is its artifact's. The classes are clustered by what it predicts for
    the data set's transfer split, whatever the run makes of it.
    """
    source, dataset, run = _source(plan), setting.dataset, setting.run
    predictions = predict(generalist, dataset.transfer, setting.device).softmax(1)
    sets = confusable_sets(predictions, source.specialists, source.classes_each, source.seed)
    if len(sets) < source.specialists:
        log.info("%d clusters have only %d different sets of classes", source.specialists, len(sets))
    specialists = []
    for number, own in enumerate(sets, 1):
        log.info("specialist %d: %s", number, ", ".join(_named(dataset, own)))
        step = _training(plan, setting, generalist, identity, own, f"specialist_{number}")
        obtain(replace(step, deps=(name,)) if name is not None else step, setting.store, run)
        specialists.append(step.network.to(setting.device).eval())
    run.precision["teacher"] = run.precision.get("generalist", "32")
    return SpecialistEnsemble(generalist, specialists, sets, source.top_n)


def _training(
    plan: TeacherPlan, setting: Setting, generalist: nn.Module, identity: dict[str, Any], own: Tensor, stage: str
) -> TrainedModel:
    """The step that trains the specialist for the classes `own`. Its identity is theirs, and not its place among the
    others.
    """
    source, seen, config = _source(plan), _seen_by(setting.dataset, own), _config(plan)
    for kind, missing in ((", ".join(seen.classes[:-1][:10]), seen.train.labels.min() == len(own)),
                          ("any other class", seen.train.labels.max() < len(own))):  # fmt: skip
        if missing:
            raise DataError(f"{seen.name}: {stage} has no training {seen.spec.noun} of {kind}.")
    seed = derive(source.seed, "specialist")
    batches = HalfOwn(seen.train, len(own), source.train.batch_size, seed, setting.device, source.augment)
    model = _untrained(_constructor(config), generalist, own, seen, setting.dataset.classes)
    model.correction[-1] = batches.over_sampling
    about = {
        "stage": "specialist",
        "version": VERSION,
        "model": identity_of(config),
        "generalist": identity,
        "train": recipe_identity(plan.config["train"], "teacher"),
        "augment": identity_of(plan.config.get("augment")),
        "seed": source.seed,
        "data": fingerprint(seen.train),
        "classes": list(seen.classes),
    }
    if source.train.sees_validation and seen.validation is not None:
        about["validation"] = fingerprint(seen.validation)
    learns = Described(CrossEntropy(), "cross-entropy")
    return TrainedModel(
        "teachers", stage, "teacher", model, config, seen, batches, learns, source.train, about, setting
    )  # fmt: skip


def specialists_figures(network: nn.Module, logits: Tensor, dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """Return what result.json says beside the figures of a combined teacher with these test logits; nothing of another
    teacher.
    """
    if not isinstance(network, SpecialistEnsemble):
        return {}
    test, sets = dataset.test, network.sets.cpu()
    alone = predict(network.generalist, test, device)
    wrong, n = metrics.errors(alone, test.labels), len(test)
    return {
        "generalist": Scores(errors=wrong, n=n, accuracy=1 - wrong / n, nll=metrics.nll(alone, test.labels)),
        "covering": [Covering(**row) for row in covering(alone, logits, test.labels, sets)],
        "conditional": Conditional(**conditional(alone, logits, test.labels, sets)),
        "sets": [[dataset.classes[k] for k in own] for own in sets.tolist()],
    }


def _seen_by(dataset: Dataset, own: Tensor) -> Dataset:
    """The data set as a specialist for these classes sees it."""
    classes = len(dataset.classes)
    train = relabelled(dataset.train, own, classes)
    validation = relabelled(dataset.validation, own, classes) if dataset.validation is not None else None
    names = tuple(dataset.classes[k] for k in own.tolist())
    return replace(dataset, train=train, validation=validation, classes=(*names, DUSTBIN))


def _source(plan: TeacherPlan) -> Asked:
    assert isinstance(plan.source, Asked)
    return plan.source


def _config(plan: TeacherPlan) -> dict[str, Any]:
    """The config of a specialist: the generalist's network with other outputs."""
    generalist = _source(plan).generalist
    if isinstance(generalist, Stored):
        network = stored_node(Path(generalist.path))
    elif isinstance(generalist, Trained | Pretrained):
        network = plan.parts["generalist"].config["model"]
    else:
        hint = "Its specialists have its network, with other outputs. To choose one, write teacher.generalist=mlp_1200."
        raise must("teacher.generalist", "one whose network kd can build", type(generalist).__name__, hint)
    return {
        "_target_": "kd_cli.teachers.specialists.network.Specialist",
        "_partial_": True,
        "network": {**network, "_partial_": True},
    }


def _constructor(config: dict[str, Any]) -> Any:
    return instantiate(config, "teacher.generalist.model")


def _untrained(build: Any, generalist: nn.Module, own: Tensor, seen: Dataset, classes: Sequence[str]) -> Specialist:
    model: Specialist = build(num_classes=len(seen.classes), spec=seen.spec)
    model.start_from(generalist, own.tolist(), len(classes))
    return model


def _named(dataset: Dataset, own: Tensor) -> list[str]:
    names = [dataset.classes[k] for k in own.tolist()]
    return names if len(names) <= 20 else [*names[:20], "…"]
