"""Stage 3 and 4: the student and its baseline, trained alike, and all three models evaluated on the test split."""

from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import load_model
from torch import nn

from kd_cli.datasets.splits import fingerprint
from kd_cli.engine import Batches, Objective, Recipe, Targets, derive
from kd_cli.errors import must
from kd_cli.evaluation import Evaluation
from kd_cli.gap import gap_recovered
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.progress import log
from kd_cli.stages.compose import build_network, identity_of, instantiate, owner
from kd_cli.stages.dump_targets import obtain_targets, room
from kd_cli.stages.run import Run
from kd_cli.stages.train_teacher import obtain, prepare
from kd_cli.stages.training import train_and_store
from kd_cli.stages.transfer import TransferSet, transfer_set
from kd_cli.types import Split

VERSION = 2  # raised whenever kd trains another student from the same config


def main(cfg: DictConfig) -> None:
    """`kd distill`, and every job of `kd sweep`."""
    run = Run(cfg)
    dataset = run.dataset
    objective: Objective = instantiate(cfg.objective, "objective")
    with owner("student"):
        recipe: Recipe = instantiate(cfg.student.train, "student.train")
        build = Builder(run, instantiate(cfg.student.model, "student.model"), recipe)
        student = build.model()
        recipe.check(student, dataset.validation)
    source, teacher_network = prepare(run)
    transfer = transfer_set(cfg.transfer, dataset, source.online)
    if cfg.hard_weight > 0 and not transfer.split.labelled:
        found = "sort the images into transfer/<class>/" if cfg.transfer.labels == "all" else "set transfer.labels=all"
        hint = f"Set hard_weight=0, or {found}."
        raise must("hard_weight", "0 for a transfer set without labels", cfg.hard_weight, hint)
    if not source.online:
        room(run, transfer)
    elif cfg.targets.top_k is not None:
        raise must("targets.top_k", "null with teacher.online=true, which stores no targets", cfg.targets.top_k)
    run.accept()

    teacher = obtain(run, source, teacher_network)
    targets, targets_identity = obtain_targets(run, teacher, transfer)
    identity = {"objective": identity_of(cfg.objective), "targets": targets_identity}
    name = build.train("student", student, transfer, transfer.split, identity, objective, targets)
    names = {"teacher": teacher.name, "student": name}
    models = {"teacher": teacher.network, "student": student}
    note = None
    if cfg.baseline:
        split = transfer.split
        if not split.labelled:
            split = dataset.train
            note = "The transfer set has no labels: the baseline was trained on the training split."
        elif split.labelled < len(split):
            note = (
                f"The baseline learnt from the {split.labelled:,} labels of the transfer set's {len(split):,} images."
            )
        baseline = build.model()
        plain_objective = {"objective": "cross-entropy"}
        names["baseline"] = build.train("baseline", baseline, transfer, split, plain_objective, CrossEntropy(), None)
        models["baseline"] = baseline

    log.info("evaluating on the %d test images", len(dataset.test))
    result: dict[str, Any] = {}
    reference: Evaluation | None = None
    for role, model in models.items():
        determined_by = teacher.identity if role == "teacher" else names[role]
        evaluation = run.evaluate(model, determined_by, reference if role == "student" else None)
        result[role] = {**evaluation.figures, "artifact": names[role]}
        if role == "teacher":
            reference = evaluation
    result |= recovered(result)
    run.finish(result | {"note": note, "environment": run.environment(run.precision["student"])})


class Builder:
    """Builds and trains the student's network: for the student and for the baseline alike."""

    def __init__(self, run: Run, constructor: Any, recipe: Recipe) -> None:
        self.run, self.constructor, self.recipe = run, constructor, recipe

    def model(self) -> nn.Module:
        """The untrained network: the same weights for the same seed."""
        dataset = self.run.dataset
        torch.manual_seed(derive(self.run.cfg.seed, "initialisation"))
        arguments = {"num_classes": len(dataset.classes), "input_shape": dataset.input_shape}
        return build_network(lambda: self.constructor(**arguments), "student", dataset)

    def train(
        self, role: str, model: nn.Module, transfer: TransferSet, split: Split, identity: dict[str, Any],
        objective: Objective, targets: Targets | None,
    ) -> str:  # fmt: skip
        """Trains `model` on the transfer set's views of `split`, or finds it; returns its artifact's name."""
        run, cfg, recipe = self.run, self.run.cfg, self.recipe
        identity = {
            "stage": "student",
            "version": VERSION,
            "model": identity_of(cfg.student.model),
            "train": identity_of(cfg.student.train),
            "seed": cfg.seed,
            "data": fingerprint(split),
            "views": {key: value for key, value in transfer.identity.items() if key != "images"},
            "classes": list(run.dataset.classes),
            **identity,
        }
        if recipe.select == "best_validation" and run.dataset.validation is not None:
            identity["validation"] = fingerprint(run.dataset.validation)
        with run.stage(role) as done:
            artifact = run.store.find("students", identity)
            cached = artifact is not None
            if artifact is None:
                batches = Batches(
                    split,
                    recipe.batch_size,
                    cfg.seed,
                    run.device,
                    transfer.augment,
                    transfer.seed,
                    transfer.views,
                    targets,
                )
                artifact = train_and_store(
                    run, "students", identity, role, model, cfg.student.model, batches, objective, recipe
                )
            load_model(model, str(artifact.folder / "model.safetensors"))
            model.to(run.device).eval()
            done(artifact, cached)
        return run.name(artifact.folder)


def recovered(result: dict[str, Any]) -> dict[str, Any]:
    """`gap_recovered`, and where it is null the reason."""
    if "baseline" not in result:
        return {"gap_recovered": None, "gap_reason": "no baseline was trained"}
    teacher, student, baseline = (result[role]["errors"] for role in ("teacher", "student", "baseline"))
    gap = gap_recovered([teacher], [student], [baseline])
    return {
        "gap_recovered": gap,
        "gap_reason": None if gap is not None else "the teacher is not better than the baseline",
    }
