"""Stage 1: a teacher, trained now or found in the store, or taken from elsewhere."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kd_cli.datasets.splits import fingerprint
from kd_cli.engine import Batches, derive
from kd_cli.errors import DataError
from kd_cli.evaluation import evaluate
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.stages.compose import build_network, identity_of, instantiate, owner
from kd_cli.stages.run import Run
from kd_cli.stages.stored import load, load_weights
from kd_cli.stages.train_specialists import VERSION as COMBINED
from kd_cli.stages.train_specialists import check_specialists, obtain_specialists, specialists_figures
from kd_cli.stages.training import train_and_store
from kd_cli.teachers.source import Source
from kd_cli.teachers.specialists import Specialists
from kd_cli.teachers.trained import Trained
from kd_cli.types import Dataset

VERSION = 2  # raised whenever kd trains another teacher from the same config


@dataclass(frozen=True)
class Teacher:
    """The teacher of a run, ready to be asked. `identity` determines what it says; of several artifacts, none is its
    `name`.
    """

    network: nn.Module
    identity: dict[str, Any]
    name: str | None
    online: bool


def main(cfg: DictConfig) -> None:
    """`kd train-teacher`."""
    run = Run(cfg)
    source, network = prepare(run)
    run.accept()
    teacher = obtain(run, source, network)
    evaluation = evaluate(teacher.network, run.dataset.test, run.dataset.classes, run.device)
    more = specialists_figures(run, teacher.network, evaluation.logits)
    run.finish(
        {
            "teacher": {**evaluation.figures, **more, "artifact": teacher.name},
            "environment": run.environment(run.precision.get("teacher", "32")),
        }
    )


def prepare(run: Run, key: str = "teacher") -> tuple[Source, nn.Module]:
    """The source that the node `key` describes, and its network: a wrong config is refused here, before any work."""
    node, trusted = OmegaConf.select(run.cfg, key), list(run.cfg.trusted_modules)
    generalist = prepare(run, f"{key}.generalist")[1] if "generalist" in node else None

    def loader(path: Path) -> tuple[nn.Module, dict[str, Any]]:
        loaded = load(path, trusted)
        return loaded.model, {"classes": loaded.classes, "input_shape": loaded.input_shape}

    with owner(key):
        source: Source = instantiate(node, key)
    if isinstance(source, Specialists) and generalist is not None:
        check_specialists(run, source, generalist)
        return source, generalist
    torch.manual_seed(derive(source.seed if isinstance(source, Trained) else 0, "initialisation"))
    network = build_network(lambda: source.network(run.dataset, loader), key, run.dataset)
    if isinstance(source, Trained):
        with owner(key):
            source.train.check(network, run.dataset.validation)
    return source, network


def obtain(run: Run, source: Source, network: nn.Module, key: str = "teacher") -> Teacher:
    """The teacher: trained, if the store does not hold it, or as it was given."""
    node = OmegaConf.select(run.cfg, key)
    if isinstance(source, Specialists):
        generalist = obtain(run, source.generalist, network, f"{key}.generalist")
        combined = obtain_specialists(run, source, generalist.network, generalist.identity)
        combined.to(run.device).eval().requires_grad_(False)
        about = {"weights": _digest(combined), "top_n": source.top_n, "combined": COMBINED}
        return Teacher(combined, generalist.identity | about, None, source.online)
    role = key.rpartition(".")[2]
    with run.stage(role) as done:
        name = _train(run, node, role, source, network, done) if isinstance(source, Trained) else str(node.path)
    network.to(run.device).eval().requires_grad_(False)
    identity: dict[str, Any] = {"weights": _digest(network)}
    if "model" in node:
        identity |= {"model": identity_of(node.model)}
    return Teacher(network, identity, name, source.online)


def _train(run: Run, node: DictConfig, role: str, source: Trained, network: nn.Module, done: Any) -> str:
    train = run.dataset.train
    if train.labelled < len(train):
        raise DataError(f"{run.dataset.name}: {len(train) - train.labelled} training images have no label.")
    identity = teacher_identity(node, source, run.dataset)
    artifact = run.store.find("teachers", identity)
    cached = artifact is not None
    if artifact is None:
        batches = Batches(train, source.train.batch_size, source.seed, run.device, source.augment, source.seed)
        artifact = train_and_store(
            run, "teachers", identity, role, network, node.model, batches, CrossEntropy(), source.train
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
