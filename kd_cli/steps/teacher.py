"""The teacher: trained now or found in the store, or taken from elsewhere."""

from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd_cli.build.identity import Described, identity_of
from kd_cli.build.objects import build_network, check_augment, try_augment
from kd_cli.data.augment import augment_name
from kd_cli.data.samples import Dataset
from kd_cli.data.splits import fingerprint
from kd_cli.errors import DataError, must, under
from kd_cli.files.digests import digest_of
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hard_teacher import HardTeacher
from kd_cli.progress import log
from kd_cli.steps.given_teacher import GivenTeacher
from kd_cli.steps.plan import Part, TeacherPlan
from kd_cli.steps.recipes import recipe_identity, start
from kd_cli.steps.setting import Setting
from kd_cli.steps.specialists import VERSION as COMBINED
from kd_cli.steps.specialists import check_specialists, obtain_specialists
from kd_cli.steps.trained_model import TrainedModel
from kd_cli.steps.transfer import TransferSet
from kd_cli.store.models import load, model_folder
from kd_cli.store.step import name_of, obtain
from kd_cli.teachers.advice import advice
from kd_cli.teachers.artifact import Stored
from kd_cli.teachers.checkpoint import Pretrained
from kd_cli.teachers.ensemble import Ensemble, Members
from kd_cli.teachers.identity import weights_of
from kd_cli.teachers.onnx import Onnx
from kd_cli.teachers.own import answers_of, is_own, told_by
from kd_cli.teachers.published import Published
from kd_cli.teachers.sound import check_teacher
from kd_cli.teachers.source import Answered, Single
from kd_cli.teachers.specialists.source import Specialists
from kd_cli.teachers.teacher import Answering, Teacher
from kd_cli.teachers.trained import Trained
from kd_cli.train.batches import Batches, derive
from kd_cli.train.class_weights import class_weights
from kd_cli.train.probe import probe

VERSION = 3  # raised whenever kd trains another teacher from the same config


Asked = nn.Module | Answering  # what a part of a teacher is asked by


def prepare(plan: TeacherPlan, setting: Setting) -> list[Asked]:
    """Return what answers for each part; refuse before any work what would fail when it is asked or trained."""
    every = [_tried(plan, part, setting) for part in plan.parts.values()]
    if isinstance(plan.source, Specialists):
        check_specialists(plan, setting, _as_network(every[0]))
    return every


def check_answers(plan: TeacherPlan, asked: list[Asked], transfer: TransferSet, objective: object = None) -> None:
    """Refuse a transfer set, or an objective, that needs more than what answers without a network can tell."""
    for part, each in zip(plan.parts.values(), asked, strict=True):
        if isinstance(each, nn.Module):
            continue
        with under(part.key):
            each.check(transfer.split)
        if each.as_they_are and transfer.augment is not None:
            hint = f"{part.key} knows the samples as they are: the student would see others than its answers are about."
            raise must("transfer.augment", "null for this teacher", augment_name(transfer.augment), hint)
        if each.labels and objective is not None and not isinstance(objective, HardTeacher):
            hint = f"{part.key} names the best class alone: there is no distribution to learn from."
            raise must("objective", "hard_teacher for this teacher", type(objective).__name__, hint)


def few_of(asked: list[Asked]) -> list[int | None]:
    """Return how many classes each part tells at most of a sample; None of one that tells all."""
    return [None if isinstance(each, nn.Module) else each.top_k for each in asked]


def standing(plan: TeacherPlan, dataset: Dataset, root: Path) -> dict[str, str]:
    """Return what the teachers that kd does not train itself are now, by their stages; `root` is the output folder."""
    return {
        part.stage: digest_of(_identity(part, _asked(plan, part, dataset, root)))
        for part in plan.parts.values()
        if not part.trained
    }


def _asked(plan: TeacherPlan, part: Part, dataset: Dataset, root: Path) -> Asked:
    if not isinstance(part.source, Answered):
        return _network(plan, part, part.source, dataset)
    with under(part.key):
        return part.source.open(dataset, root)


def _identity(part: Part, asked: Asked) -> dict[str, Any]:
    """What determines the answers of a part."""
    with under(part.key):
        if isinstance(part.source, Answered):
            assert not isinstance(asked, nn.Module)
            return told_by(part.source, part.config, asked)
        return answers_of(part.source, part.config, _as_network(asked))


def _as_network(asked: Asked) -> nn.Module:
    assert isinstance(asked, nn.Module)
    return asked


def _network(plan: TeacherPlan, part: Part, source: Single, dataset: Dataset) -> nn.Module:
    key = part.key

    def loader(path: Path) -> tuple[nn.Module, dict[str, Any]]:
        loaded = load(path, plan.trusted)
        return loaded.model, {"classes": loaded.classes, "spec": loaded.spec}

    torch.manual_seed(derive(_seed(source) if isinstance(source, Trained) else 0, "initialisation"))
    network = build_network(
        lambda: source.network(dataset, loader),
        key,
        dataset,
        key if is_own(source) or not hasattr(source, "model") else f"{key}.model",
    )
    with under(key):
        if isinstance(source, Trained):
            source.train.check(network, dataset.validation)
        elif is_own(source):
            answers_of(source, part.config, network)  # one that cannot state them is refused
    return network


def _tried(plan: TeacherPlan, part: Part, setting: Setting) -> Asked:
    """What answers for a part. What would fail only when it is asked or trained is refused here."""
    network, dataset = _asked(plan, part, setting.dataset, setting.run.root), setting.dataset
    source = part.source
    if not isinstance(network, nn.Module):
        return network
    check_teacher(network, dataset.transfer, setting.device, part.key)
    if isinstance(source, Trained):
        check_augment(source.augment, dataset.spec, f"{part.key}.augment")
        try_augment(source.augment, dataset.train, part.key)
        with under(part.key):
            start(network, source.train, "teacher", len(dataset.classes))
            step = _training(part, source, network, setting)
            if not setting.store.has(step.kind, step.identity):
                probe(network, step.batches, CrossEntropy(), source.train, len(dataset.classes), taught=False)
    return network


def _training(part: Part, source: Trained, network: nn.Module, setting: Setting) -> TrainedModel:
    """The step that trains a teacher, as the config that stands at the part's key says."""
    dataset, recipe, seed = setting.dataset, source.train, _seed(source)
    train = dataset.train
    if train.labelled < len(train):
        raise DataError(f"{dataset.name}: {len(train) - train.labelled} training {dataset.spec.noun} have no label.")
    weights = class_weights(recipe.class_weights, train, dataset.classes)
    batches = Batches(
        train, recipe.batch_size, seed, setting.device, source.augment, seed, class_weights=weights
    )  # fmt: skip
    identity = teacher_identity(part.config, source, dataset)
    learns = Described(CrossEntropy(), "cross-entropy")
    config = part.config["model"]
    return TrainedModel(
        "teachers", part.stage, part.key, network, config, dataset, batches, learns, recipe, identity, setting
    )  # fmt: skip


def obtain_teacher(plan: TeacherPlan, asked: list[Asked], setting: Setting) -> Teacher:
    """Return the teacher: each part of it trained, if the store does not hold it, or as it was given."""
    source = plan.source
    if isinstance(source, Ensemble):
        every = zip(plan.parts.items(), asked, strict=True)
        members = {name: _obtain(part, each, setting) for (name, part), each in every}
        rule = source.combination()
        networks = [each for each in asked if isinstance(each, nn.Module)]
        combined = Members(networks, rule).eval() if len(networks) == len(asked) else None
        for one, other in combinations(members, 2):
            if members[one].identity == members[other].identity:
                log.info("members %s and %s are the same network: give one another seed", one, other)
        identity = {"members": [each.identity for each in members.values()], **rule.identity(1.0)}
        return Teacher(combined, identity, None, plan.online, members, combination=rule)
    (part,), (only,) = plan.parts.values(), asked
    teacher = _obtain(part, only, setting)
    if isinstance(source, Specialists):
        together = obtain_specialists(plan, setting, _as_network(only), teacher.identity, teacher.name)
        together.to(setting.device).eval().requires_grad_(False)
        about = {**weights_of(together), "top_n": source.top_n, "combined": COMBINED}
        return Teacher(together, teacher.identity | about, None, plan.online)
    return teacher


def _obtain(part: Part, asked: Asked, setting: Setting) -> Teacher:
    source, run, memory_format = part.source, setting.run, "auto"
    if not isinstance(asked, nn.Module):
        with run.stage(part.stage) as done:
            identity = _identity(part, asked)
            done(asked.name, True)
        run.identities[part.stage] = digest_of(identity)
        return Teacher(None, identity, asked.name, False, answering=asked, key=part.key)
    network = asked
    if isinstance(source, Trained):
        trained = _training(part, source, network, setting)
        obtain(trained, setting.store, run)
        name: str | None = name_of(trained)
        memory_format = source.train.memory_format
    elif isinstance(source, Pretrained | Published) and not is_own(source):
        step = GivenTeacher(part, source, network, setting)
        obtain(step, setting.store, run)
        name = name_of(step)
        if (train := setting.dataset.train).labelled and (said := advice(network, train, setting.device, part.key)):
            log.warning("%s", said)
    else:
        name = _name_elsewhere(source, setting)
        with run.stage(part.stage) as done:
            done(name, True)
    network.to(setting.device).eval().requires_grad_(False)
    if part.trained:  # which may have spoilt it
        check_teacher(network, setting.dataset.transfer, setting.device, part.key)
    identity = _identity(part, network)
    if not part.trained:
        run.identities[part.stage] = digest_of(identity)
    return Teacher(network, identity, name, source.online, memory_format=memory_format)


def _name_elsewhere(source: Any, setting: Setting) -> str | None:
    """What result.json calls a teacher that is taken from where it is."""
    if isinstance(source, Stored):
        setting.run.uses(folder := model_folder(Path(source.path)))
        return setting.run.name(folder)
    return source.path if isinstance(source, Onnx) else None


def teacher_identity(config: dict[str, Any], source: Trained, dataset: Dataset) -> dict[str, Any]:
    """Return all that determines the weights of the teacher that `config` describes."""
    identity = {
        "stage": "teacher",
        "version": VERSION,
        "model": identity_of(config["model"]),
        "train": recipe_identity(config["train"], "teacher"),
        "augment": identity_of(config.get("augment")),
        "seed": source.seed,
        "data": fingerprint(dataset.train),
        "classes": list(dataset.classes),
    }
    if source.train.sees_validation and dataset.validation is not None:
        identity["validation"] = fingerprint(dataset.validation)
    return identity


def _seed(source: Trained) -> int:
    """What initialisation, order, dropout and augmentation derive from: no student of the same seed draws the same."""
    return derive(source.seed, "teacher")
