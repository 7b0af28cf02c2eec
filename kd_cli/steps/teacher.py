"""Stage 1: a teacher, trained now or found in the store, or taken from elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kd_cli.build.identity import identity_of
from kd_cli.build.objects import build_network, check_augment, instantiate, owner
from kd_cli.cli import schema
from kd_cli.data.samples import Dataset
from kd_cli.data.splits import fingerprint
from kd_cli.errors import DataError, must
from kd_cli.files.digests import digest_of
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.progress import log
from kd_cli.runs.run import Run
from kd_cli.steps.recipes import recipe_identity, start
from kd_cli.steps.specialists import VERSION as COMBINED
from kd_cli.steps.specialists import check_specialists, obtain_specialists
from kd_cli.steps.trained_model import train_and_store
from kd_cli.store.models import load, model_folder, use_of
from kd_cli.teachers.artifact import Stored
from kd_cli.teachers.checkpoint import Checkpoint
from kd_cli.teachers.ensemble import Ensemble, Members
from kd_cli.teachers.identity import weights_of
from kd_cli.teachers.own import answers_of, is_own
from kd_cli.teachers.sound import check_teacher
from kd_cli.teachers.source import Single, Source
from kd_cli.teachers.specialists.source import Specialists
from kd_cli.teachers.trained import Trained
from kd_cli.train.batches import Batches, derive
from kd_cli.train.class_weights import class_weights
from kd_cli.train.probe import probe

VERSION = 3  # raised whenever kd trains another teacher from the same config


@dataclass(frozen=True)
class Teacher:
    """The teacher of a run, ready to be asked. `identity` determines what it says. An ensemble has `members`, by their
    names; of several artifacts, none is its `name`. `memory_format` is what its recipe asks for.
    """

    network: nn.Module
    identity: dict[str, Any]
    name: str | None
    online: bool
    members: Mapping[str, "Teacher"] = field(default_factory=dict)
    memory_format: str = "auto"


def prepare(run: Run) -> tuple[Source, nn.Module]:
    """The source and its network: a wrong config is refused here, before any work."""
    source = _source(run.cfg)
    networks = [_tried(run, each, key) for key, each in _singles(source).values()]
    if isinstance(source, Ensemble):
        return source, Members(networks, source.combination())
    if isinstance(source, Specialists):
        check_specialists(run, source, networks[0])
    return source, networks[0]


def given(cfg: DictConfig) -> dict[str, tuple[str, Single]]:
    """The networks of the teacher that kd does not train itself, by their stages: key and source of each."""
    every = _singles(_source(cfg)).items()
    return {stage: (key, source) for stage, (key, source) in every if not isinstance(source, Trained)}


def standing(cfg: DictConfig, dataset: Dataset) -> dict[str, str]:
    """What those networks are now, by their stages."""
    return {
        stage: digest_of(answers_of(source, OmegaConf.select(cfg, key), _network(cfg, dataset, source, key)))
        for stage, (key, source) in given(cfg).items()
    }


def _source(cfg: DictConfig) -> Source:
    for part in schema.members(cfg.teacher):  # each by itself first: a refusal then names its key
        with owner(f"teacher.{part}"):
            instantiate(OmegaConf.select(cfg, f"teacher.{part}"), f"teacher.{part}")
    with owner("teacher"):
        source = instantiate(cfg.teacher, "teacher")
    if not isinstance(source, Single | Ensemble | Specialists):
        raise must("teacher", "a kd_cli.teachers.source.Single", type(source).__name__, "Derive its class from that.")
    return source


def _singles(source: Source) -> dict[str, tuple[str, Single]]:
    """Each network that a teacher is given or trained from, by its stage: the key of its config, and its source."""
    if isinstance(source, Ensemble):
        return {f"teacher_{name}": (f"teacher.{part}", each) for name, (part, each) in source.sources().items()}
    if isinstance(source, Specialists):
        return {"generalist": ("teacher.generalist", source.generalist)}
    assert isinstance(source, Single)
    return {"teacher": ("teacher", source)}


def _network(cfg: DictConfig, dataset: Dataset, source: Single, key: str) -> nn.Module:
    trusted = list(cfg.trusted_modules)

    def loader(path: Path) -> tuple[nn.Module, dict[str, Any]]:
        loaded = load(path, trusted)
        return loaded.model, {"classes": loaded.classes, "spec": loaded.spec}

    torch.manual_seed(derive(_seed(source) if isinstance(source, Trained) else 0, "initialisation"))
    network = build_network(
        lambda: source.network(dataset, loader), key, dataset, key if is_own(source) else f"{key}.model"
    )
    with owner(key):
        if isinstance(source, Trained):
            source.train.check(network, dataset.validation)
        elif is_own(source):
            answers_of(source, OmegaConf.select(cfg, key), network)  # one that cannot state them is refused
    return network


def _tried(run: Run, source: Single, key: str) -> nn.Module:
    """The network of a source. What would fail only when it is asked or trained is refused here."""
    network = _network(run.cfg, run.dataset, source, key)
    check_teacher(network, run.dataset.transfer, run.device, key)
    if isinstance(source, Trained):
        check_augment(source.augment, run.dataset.spec, f"{key}.augment")
        with owner(key):
            start(network, source.train, "teacher")
            batches = _batches(run, source)
            if not run.store.has("teachers", teacher_identity(OmegaConf.select(run.cfg, key), source, run.dataset)):
                probe(network, batches, CrossEntropy(), source.train, len(run.dataset.classes), taught=False)
    return network


def _batches(run: Run, source: Trained) -> Batches:
    train = run.dataset.train
    if train.labelled < len(train):
        raise DataError(f"{run.dataset.name}: {len(train) - train.labelled} training images have no label.")
    weights = class_weights(source.train.class_weights, train, run.dataset.classes)
    recipe, seed = source.train, _seed(source)
    return Batches(train, recipe.batch_size, seed, run.device, source.augment, seed, class_weights=weights)


def obtain(run: Run, source: Source, network: nn.Module) -> Teacher:
    """The teacher, or each part of it: trained, if the store does not hold it, or as it was given."""
    if isinstance(source, Ensemble) and isinstance(network, Members):
        members = {
            name: _obtain(run, member, each, f"teacher.{part}", f"teacher_{name}")
            for (name, (part, member)), each in zip(source.sources().items(), network.networks, strict=True)
        }
        network.eval()
        for one, other in combinations(members, 2):
            if members[one].identity == members[other].identity:
                log.info("members %s and %s are the same network: give one another seed", one, other)
        identity = {"members": [each.identity for each in members.values()], **network.combination.identity(1.0)}
        return Teacher(network, identity, None, source.online, members)
    if isinstance(source, Specialists):
        generalist = _obtain(run, source.generalist, network, "teacher.generalist", "generalist")
        combined = obtain_specialists(run, source, generalist.network, generalist.identity)
        combined.to(run.device).eval().requires_grad_(False)
        about = {**weights_of(combined), "top_n": source.top_n, "combined": COMBINED}
        return Teacher(combined, generalist.identity | about, None, source.online)
    assert isinstance(source, Single)
    return _obtain(run, source, network, "teacher", "teacher")


def _obtain(run: Run, source: Single, network: nn.Module, key: str, stage: str) -> Teacher:
    node, name = OmegaConf.select(run.cfg, key), None
    with run.stage(stage) as done:
        if isinstance(source, Trained):
            name = _train(run, source, network, key, stage, done)
        else:
            if isinstance(source, Stored):
                run.uses(folder := model_folder(Path(source.path)))
                name = run.name(folder)
            elif isinstance(source, Checkpoint):
                name = source.path
            done(name, True)
    network.to(run.device).eval().requires_grad_(False)
    if isinstance(source, Trained):  # which may have spoilt it
        check_teacher(network, run.dataset.transfer, run.device, key)
    with owner(key):
        identity = answers_of(source, node, network)
    if not isinstance(source, Trained):
        run.identities[stage] = digest_of(identity)
    asked = source.train.memory_format if isinstance(source, Trained) else "auto"
    return Teacher(network, identity, name, source.online, memory_format=asked)


def of_members(run: Run, teacher: Teacher) -> dict[str, Any]:
    """What result.json says of an ensemble's members, each judged by itself; nothing for another teacher."""
    kept = ("errors", "n", "accuracy", "nll", "ece")
    rows = []
    for member in teacher.members.values():
        figures = run.evaluate(member.network, member.identity).figures
        rows.append({"artifact": member.name, **{key: figures[key] for key in kept}})
    return {"members": rows} if rows else {}


def _train(run: Run, source: Trained, network: nn.Module, key: str, stage: str, done: Any) -> str:
    node = OmegaConf.select(run.cfg, key)
    identity = teacher_identity(node, source, run.dataset)
    use = use_of(network)
    artifact = run.store.find("teachers", identity, use)
    cached = artifact is not None
    if artifact is None:
        artifact = train_and_store(
            run,
            "teachers",
            key,
            identity,
            stage.replace("_", " "),
            network,
            node.model,
            _batches(run, source),
            CrossEntropy(),
            source.train,
            use,
        )
    done(artifact, cached)
    return run.name(artifact.folder)


def teacher_identity(node: DictConfig, source: Trained, dataset: Dataset) -> dict[str, Any]:
    """All that determines the weights of the teacher that the node `teacher` describes."""
    identity = {
        "stage": "teacher",
        "version": VERSION,
        "model": identity_of(node.model),
        "train": recipe_identity(node.train, "teacher"),
        "augment": identity_of(node.get("augment")),
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
