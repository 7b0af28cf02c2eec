"""Which key of `kd distill` makes what anew: every leaf of the config, by the identities that the stages really use."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from kd_cli.build.identity import Described, identity_of, plain
from kd_cli.build.objects import instantiate
from kd_cli.cli.choices import CONFIGS
from kd_cli.data.augment import Shift
from kd_cli.files.digests import digest_of
from kd_cli.runs.session import Session
from kd_cli.steps.dump import targets_identity
from kd_cli.steps.plan import plan_of
from kd_cli.steps.student import student_identity
from kd_cli.steps.teacher import teacher_identity
from kd_cli.steps.transfer import storage, transfer_set

BASE = (
    "augment@transfer.augment=jitter",
    "augment@teacher.augment=jitter",
    "transfer.views=2",
    "dataset.validation=100",
)
ROLES = ("teacher", "targets", "student", "baseline")
ALL, LATER, STUDENTS, STUDENT, NOTHING = ROLES, ROLES[1:], ROLES[2:], ("student",), ()
TAUGHT = ROLES[:3]  # the baseline has no teacher

# key: another value, and what it makes anew
TABLE: dict[str, tuple[Any, tuple[str, ...]]] = {
    "dataset._target_": ("kd_cli.datasets.digits.digits", NOTHING),  # what counts is the data that it gives
    "dataset.size": (9, ALL),
    "dataset.validation": (101, ALL),
    "dataset.seed": (1, ALL),
    "normalisation.mean": ([0.1], NOTHING),  # these models ask for none: what they are given stands in their own
    "normalisation.std": ([0.9], NOTHING),
    "teacher._target_": ("kd_cli.teachers.trained.Trained", NOTHING),
    "teacher.model._target_": ("kd_cli.models.mlp.mlp", TAUGHT),
    "teacher.model._partial_": (True, NOTHING),
    "teacher.model.channels": ([32, 65], TAUGHT),
    "teacher.model.widths": ([129], TAUGHT),
    "teacher.model.dropout": (0.4, TAUGHT),
    "teacher.model.mean": ([0.1], TAUGHT),
    "teacher.model.std": ([0.9], TAUGHT),
    "teacher.train._target_": ("kd_cli.train.recipe.Recipe", NOTHING),
    "teacher.train.optimizer._target_": ("torch.optim.AdamW", TAUGHT),
    "teacher.train.optimizer._partial_": (True, NOTHING),
    "teacher.train.optimizer.lr": (0.2, TAUGHT),
    "teacher.train.optimizer.momentum": (0.8, TAUGHT),
    "teacher.train.optimizer.nesterov": (True, TAUGHT),
    "teacher.train.optimizer.weight_decay": (0.1, TAUGHT),
    "teacher.train.scheduler._target_": ("kd_cli.train.schedules.constant", TAUGHT),
    "teacher.train.scheduler._partial_": (True, NOTHING),
    "teacher.train.scheduler.warmup": (0.1, TAUGHT),
    "teacher.train.epochs": (41, TAUGHT),
    "teacher.train.batch_size": (65, TAUGHT),
    "teacher.train.precision": ("32", TAUGHT),
    "teacher.train.memory_format": ("contiguous", NOTHING),  # last bits only
    "teacher.train.max_norm": (1.0, TAUGHT),
    "teacher.train.clip": (1.0, TAUGHT),
    "teacher.train.select": ("best_validation", TAUGHT),
    "teacher.train.accumulate": (2, TAUGHT),
    "teacher.train.patience": (3, TAUGHT),
    "teacher.train.class_weights": ("balanced", TAUGHT),
    "teacher.train.batch_statistics": ("recomputed", TAUGHT),
    "teacher.train.start_from": (None, NOTHING),  # by the content of what it names: test_recipes
    "teacher.augment._target_": ("test_identity.Shifted", TAUGHT),
    "teacher.augment.pixels": (1, TAUGHT),
    "teacher.augment.flip": (True, TAUGHT),
    "teacher.augment.triangular": (False, TAUGHT),
    "teacher.seed": (1, TAUGHT),
    "teacher.online": (True, ("targets", "student", "baseline")),  # it stores none, and each epoch has views of its own
    "transfer.dataset": ({"_target_": "kd_cli.datasets.noise.noise", "samples": 64, "height": 8, "width": 8}, LATER),
    "transfer.labels": (0.5, STUDENTS),
    "transfer.fraction": (0.5, LATER),
    "transfer.omit_classes": ([3], LATER),
    "transfer.only_classes": ([7, 8], LATER),
    "transfer.augment._target_": ("test_identity.Shifted", LATER),
    "transfer.augment.pixels": (1, LATER),
    "transfer.augment.flip": (True, LATER),
    "transfer.augment.triangular": (False, LATER),
    "transfer.views": (3, LATER),
    "transfer.seed": (1, LATER),
    "targets.dtype": ("float32", ("targets", "student")),
    "targets.top_k": (3, ("targets", "student")),
    "targets.temperatures": ([4.0, 8.0], NOTHING),  # all logits serve every temperature
    "student.model._target_": ("kd_cli.models.cnn.cnn", STUDENTS),
    "student.model._partial_": (True, NOTHING),
    "student.model.widths": ([65], STUDENTS),
    "student.model.dropout": (0.1, STUDENTS),
    "student.model.input_dropout": (0.1, STUDENTS),
    "student.model.mean": ([0.1], STUDENTS),
    "student.model.std": ([0.9], STUDENTS),
    "student.train._target_": ("kd_cli.train.recipe.Recipe", NOTHING),
    "student.train.optimizer._target_": ("torch.optim.AdamW", STUDENTS),
    "student.train.optimizer._partial_": (True, NOTHING),
    "student.train.optimizer.lr": (0.2, STUDENTS),
    "student.train.optimizer.momentum": (0.8, STUDENTS),
    "student.train.optimizer.nesterov": (True, STUDENTS),
    "student.train.optimizer.weight_decay": (0.1, STUDENTS),
    "student.train.scheduler._target_": ("kd_cli.train.schedules.constant", STUDENTS),
    "student.train.scheduler._partial_": (True, NOTHING),
    "student.train.scheduler.warmup": (0.1, STUDENTS),
    "student.train.epochs": (101, STUDENTS),
    "student.train.batch_size": (65, STUDENTS),
    "student.train.precision": ("32", STUDENTS),
    "student.train.memory_format": ("contiguous", NOTHING),  # last bits only
    "student.train.max_norm": (1.0, STUDENTS),
    "student.train.clip": (2.0, STUDENTS),
    "student.train.select": ("best_validation", STUDENTS),
    "student.train.accumulate": (2, STUDENTS),
    "student.train.patience": (3, STUDENTS),
    "student.train.class_weights": ("balanced", STUDENTS),
    "student.train.batch_statistics": ("recomputed", STUDENTS),
    "student.train.start_from": (None, NOTHING),  # by the content of what it names: test_recipes
    "objective._target_": ("kd_cli.objectives.cross_entropy.CrossEntropy", STUDENT),
    "objective.temperature": (2.0, STUDENT),
    "objective.soft_weight": (0.5, STUDENT),
    "objective.hard_weight": (0.5, STUDENT),
    "temperature": (2.0, STUDENT),
    "soft_weight": (0.5, STUDENT),
    "hard_weight": (0.5, STUDENT),
    "precision": ("32", STUDENTS),
    "seed": (1, STUDENTS),
    "baseline": (False, NOTHING),
    "bias_correction": ("prior", NOTHING),  # the corrected student is one more
    "budget": ("short", NOTHING),  # the epochs that an experiment makes of it do
    "device": ("cpu", NOTHING),
    "compile": (True, NOTHING),
    "output_dir": ("elsewhere", NOTHING),
    "rebuild": (True, NOTHING),
    "trusted_modules": (["mine"], NOTHING),
    "sweep.name": ("mine", NOTHING),
    "resume": (False, NOTHING),
    "checkpoint.every_epochs": (1, NOTHING),
    "checkpoint.every_minutes": (1.0, NOTHING),
    "evaluate.latency": (False, NOTHING),
}


class Shifted(Shift):
    """The same under another name."""


@pytest.fixture(scope="module")
def base() -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("distill", overrides=list(BASE))


@pytest.fixture(scope="module")
def before(base: DictConfig) -> dict[str, str | None]:
    return identities(base, base)


def identities(cfg: DictConfig, built: DictConfig) -> dict[str, str | None]:
    """The identity of each role. Recipes and augmentations are built from `built`, what they are called from `cfg`.

    Weights are not trained for it: they are what the teacher's identity determines.
    """
    dataset, plan = instantiate(cfg.dataset, "dataset"), plan_of(built)
    teacher = teacher_identity(plain(cfg.teacher), plan.teacher.source, dataset)
    weights = {"weights": digest_of(teacher), "model": identity_of(cfg.teacher.model)}
    augment = Described(plan.transfer.augment.built, plain(cfg.transfer.augment))
    transfer = transfer_set(replace(plan.transfer, augment=augment), dataset, False, Session())
    targets = targets_identity(weights, transfer, storage(plan.targets, len(dataset.classes)))
    asked = replace(
        plan.student,
        model=Described(plan.student.model.built, plain(cfg.student.model)),
        recipe=Described(plan.student.recipe.built, plain(cfg.student.train)),
    )
    common = student_identity(asked, dataset, transfer, transfer.split, "student")
    student = {**common, "objective": identity_of(cfg.objective), "targets": {"stored": targets}}
    baseline = {**common, "objective": "cross-entropy"}
    return dict(zip(ROLES, map(digest_of, (teacher, targets, student, baseline)), strict=True))


def leaves(node: Any, path: str = "") -> list[str]:
    if OmegaConf.is_dict(node):
        return [leaf for key in node for leaf in leaves(node._get_node(key), f"{path}.{key}" if path else str(key))]
    return [path]


def test_the_table_names_every_key(base: DictConfig) -> None:
    assert sorted(TABLE) == sorted(leaves(base)), "a new key says here what it makes anew"


@pytest.mark.parametrize("key", sorted(set(TABLE) - {"teacher.online"}))
def test_a_key_makes_anew_what_depends_on_it_and_nothing_else(key: str, base: DictConfig, before: Any) -> None:
    value, anew = TABLE[key]
    cfg = base.copy()
    with open_dict(cfg):
        OmegaConf.update(cfg, key, value)
    # another class may not take these arguments: it is named, and what else the identity needs is built as it was
    built = base if key.endswith("._target_") else cfg
    after = identities(cfg, built)
    assert {role for role in ROLES if after[role] != before[role]} == set(anew)


def test_an_online_teacher_stores_no_targets_and_shows_each_epoch_another_view(base: DictConfig) -> None:
    cfg = base.copy()
    cfg.transfer.views = 1
    dataset, plan = instantiate(cfg.dataset, "dataset"), plan_of(cfg)
    stored, online = (transfer_set(plan.transfer, dataset, asked, Session()) for asked in (False, True))
    common = [
        student_identity(plan.student, dataset, transfer, transfer.split, "student") for transfer in (stored, online)
    ]
    assert {key for key in common[0] if common[0][key] != common[1][key]} == {"views"}
    cfg.teacher.online = True
    source = instantiate(cfg.teacher, "teacher")
    assert teacher_identity(plain(cfg.teacher), source, dataset) == teacher_identity(
        plain(base.teacher), source, dataset
    )


def test_identities_do_not_depend_on_where_and_when(base: DictConfig, before: Any) -> None:
    torch.manual_seed(7)
    assert identities(base.copy(), base) == before
