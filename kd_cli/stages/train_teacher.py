"""Stage 1: a teacher, trained now or found in the store, or taken from elsewhere."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kd_cli import schema
from kd_cli.datasets.splits import fingerprint
from kd_cli.engine import Batches, derive
from kd_cli.errors import DataError
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.progress import log
from kd_cli.stages.compose import build_network, identity_of, instantiate, owner
from kd_cli.stages.run import Run
from kd_cli.stages.stored import load, load_weights, model_folder
from kd_cli.stages.train_specialists import VERSION as COMBINED
from kd_cli.stages.train_specialists import check_specialists, obtain_specialists, specialists_figures
from kd_cli.stages.training import train_and_store
from kd_cli.teachers.artifact import Stored
from kd_cli.teachers.ensemble import Ensemble, Members
from kd_cli.teachers.source import Single, Source
from kd_cli.teachers.specialists import Specialists
from kd_cli.teachers.trained import Trained
from kd_cli.types import Dataset

VERSION = 2  # raised whenever kd trains another teacher from the same config


@dataclass(frozen=True)
class Teacher:
    """The teacher of a run, ready to be asked. `identity` determines what it says. An ensemble has `members`, by their
    names; of several artifacts, none is its `name`.
    """

    network: nn.Module
    identity: dict[str, Any]
    name: str | None
    online: bool
    members: Mapping[str, "Teacher"] = field(default_factory=dict)


def main(cfg: DictConfig) -> None:
    """`kd train-teacher`."""
    run = Run(cfg)
    source, network = prepare(run)
    run.accept()
    teacher = obtain(run, source, network)
    evaluation = run.evaluate(teacher.network, teacher.identity)
    more = of_members(run, teacher) | specialists_figures(run, teacher.network, evaluation.logits)
    precisions = dict.fromkeys(run.precision.values())
    run.finish(
        {
            "teacher": {**evaluation.figures, **more, "artifact": teacher.name},
            "environment": run.environment(", ".join(precisions) or "32"),
        }
    )


def prepare(run: Run) -> tuple[Source, nn.Module]:
    """The source and its network: a wrong config is refused here, before any work."""
    for part in schema.members(run.cfg.teacher):  # each by itself first: a refusal then names its key
        with owner(f"teacher.{part}"):
            instantiate(OmegaConf.select(run.cfg.teacher, part), f"teacher.{part}")
    with owner("teacher"):
        source: Single | Ensemble | Specialists = instantiate(run.cfg.teacher, "teacher")
    if isinstance(source, Ensemble):
        networks = [_network(run, member, f"teacher.{part}") for part, member in source.sources().values()]
        return source, Members(networks, source.combination())
    if isinstance(source, Specialists):
        generalist = _network(run, source.generalist, "teacher.generalist")
        check_specialists(run, source, generalist)
        return source, generalist
    return source, _network(run, source, "teacher")


def _network(run: Run, source: Single, key: str) -> nn.Module:
    trusted = list(run.cfg.trusted_modules)

    def loader(path: Path) -> tuple[nn.Module, dict[str, Any]]:
        loaded = load(path, trusted)
        return loaded.model, {"classes": loaded.classes, "input_shape": loaded.input_shape}

    torch.manual_seed(derive(source.seed if isinstance(source, Trained) else 0, "initialisation"))
    network = build_network(lambda: source.network(run.dataset, loader), key, run.dataset)
    if isinstance(source, Trained):
        with owner(key):
            source.train.check(network, run.dataset.validation)
    return network


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
        about = {"weights": _digest(combined), "top_n": source.top_n, "combined": COMBINED}
        return Teacher(combined, generalist.identity | about, None, source.online)
    return _obtain(run, source, network, "teacher", "teacher")


def _obtain(run: Run, source: Source, network: nn.Module, key: str, stage: str) -> Teacher:
    node = OmegaConf.select(run.cfg, key)
    with run.stage(stage) as done:
        if isinstance(source, Trained):
            name = _train(run, source, network, key, stage, done)
        elif isinstance(source, Stored):
            run.uses(folder := model_folder(Path(source.path)))
            name = run.name(folder)
        else:
            name = str(node.path)
    network.to(run.device).eval().requires_grad_(False)
    identity: dict[str, Any] = {"weights": _digest(network)}
    if "model" in node:
        identity |= {"model": identity_of(node.model)}
    return Teacher(network, identity, name, source.online)


def of_members(run: Run, teacher: Teacher) -> dict[str, Any]:
    """What result.json says of an ensemble's members, each judged by itself; nothing for another teacher."""
    kept = ("errors", "n", "accuracy", "nll", "ece")
    rows = []
    for member in teacher.members.values():
        figures = run.evaluate(member.network, member.identity).figures
        rows.append({"artifact": member.name, **{key: figures[key] for key in kept}})
    return {"members": rows} if rows else {}


def _train(run: Run, source: Trained, network: nn.Module, key: str, stage: str, done: Any) -> str:
    train = run.dataset.train
    if train.labelled < len(train):
        raise DataError(f"{run.dataset.name}: {len(train) - train.labelled} training images have no label.")
    node = OmegaConf.select(run.cfg, key)
    identity = teacher_identity(node, source, run.dataset)
    artifact = run.store.find("teachers", identity)
    cached = artifact is not None
    if artifact is None:
        batches = Batches(train, source.train.batch_size, source.seed, run.device, source.augment, source.seed)
        artifact = train_and_store(
            run,
            "teachers",
            key,
            identity,
            stage.replace("_", " "),
            network,
            node.model,
            batches,
            CrossEntropy(),
            source.train,
        )
    load_weights(network, artifact)
    done(artifact, cached)
    return run.name(artifact.folder)


def teacher_identity(node: DictConfig, source: Trained, dataset: Dataset) -> dict[str, Any]:
    """All that determines the weights of the teacher that the node `teacher` describes."""
    identity = {
        "stage": "teacher",
        "version": VERSION,
        "model": identity_of(node.model),
        "train": identity_of(node.train),
        "augment": identity_of(node.get("augment")),
        "seed": source.seed,
        "data": fingerprint(dataset.train),
        "classes": list(dataset.classes),
    }
    if source.train.select == "best_validation" and dataset.validation is not None:
        identity["validation"] = fingerprint(dataset.validation)
    return identity


def _digest(network: nn.Module) -> str:
    """SHA-256 of the weights and buffers."""
    sha = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
