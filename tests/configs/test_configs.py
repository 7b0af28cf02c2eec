"""Every YAML composes and instantiates, every key in a recipe is an argument of what it configures."""

from pathlib import Path

import pytest
from composing import composed, names, offline
from omegaconf import OmegaConf

from kd_cli.build.objects import instantiate
from kd_cli.cli import (
    job,  # registers the schemas and resolvers
    schema,
)
from kd_cli.cli.choices import CONFIGS
from kd_cli.cli.keys import schema_of
from kd_cli.cli.main import commands
from kd_cli.teachers.source import Source
from kd_cli.train.recipe import Recipe


def test_every_file_is_found_by_this_module() -> None:
    groups = {path.parent.name for path in CONFIGS.glob("*/*.yaml")}
    covered = {"dataset", "normalisation", "teacher", "student", "model", "recipe", "objective", "optimizer"}
    covered |= {"scheduler", "augment", "experiment", "train"}
    assert groups == covered
    assert {path.parent.parent.name for path in CONFIGS.glob("*/*/*.yaml")} == {"hydra"}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_commands_first_line_is_its_help(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")
    assert commands()[path.stem.replace("_", "-")] == first[2:]


@pytest.mark.parametrize("command", names("."))
def test_every_command_composes(command: str) -> None:
    cfg = composed(command)
    expected = set(schema_of(command).__dataclass_fields__)
    assert set(cfg) == expected
    if command not in job.ANSWERS:
        schema.check(command, cfg)
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_composes_and_its_parts_exist(experiment: str) -> None:
    cfg = composed("distill", f"experiment={experiment}")
    schema.check("distill", cfg)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    instantiate(cfg.objective, "objective")
    offline(cfg, "teacher.model")
    assert isinstance(instantiate(cfg.teacher, "teacher"), Source)
    assert isinstance(instantiate(cfg.student.train, "student.train"), Recipe)
    if cfg.transfer.augment is not None:
        instantiate(cfg.transfer.augment, "transfer.augment")


def test_hinton_mnist_is_the_papers_experiment() -> None:
    cfg = composed("distill", "experiment=hinton_mnist")
    assert list(cfg.teacher.model.widths) == [1200, 1200]
    assert list(cfg.student.model.widths) == [800, 800]
    assert cfg.student.model.dropout == cfg.student.model.input_dropout == 0
    assert cfg.student.train.optimizer.weight_decay == 0
    assert cfg.student.train.max_norm is None
    assert (cfg.temperature, cfg.transfer.augment, cfg.transfer.views) == (20, None, 1)
    assert cfg.teacher.augment.pixels == 2
    assert cfg.teacher.train.max_norm is not None
    views = composed("distill", "experiment=hinton_mnist_views")
    assert views.transfer.augment == views.teacher.augment
    assert views.transfer.views > 1


@pytest.mark.parametrize("teacher", ["resnet20", "resnet56", "resnet110", "resnet32x4", "wrn_40_2"])
def test_cifar_teachers_are_asked_online_by_default(teacher: str) -> None:
    assert composed("distill", f"teacher={teacher}").teacher.online is True


def test_what_the_shipped_defaults_are_trained_by() -> None:
    """Stored artifacts are found by these values."""
    cfg = OmegaConf.to_container(
        composed("distill", "dataset=mnist", "teacher=mlp_1200", "student=mlp_800"), resolve=True
    )
    assert isinstance(cfg, dict)
    cosine = {"_target_": "kd_cli.train.schedules.cosine", "_partial_": True, "warmup": 0.05}
    sgd = {"_target_": "torch.optim.SGD", "_partial_": True, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
    recipe = {
        "_target_": "kd_cli.train.recipe.Recipe",
        "precision": "auto",
        "select": "last",
        "max_norm": None,
        "clip": None,
    }
    recipe |= {"accumulate": 1, "patience": None, "class_weights": None, "batch_statistics": "auto", "start_from": None}
    recipe["memory_format"] = "auto"
    mlp = {"_target_": "kd_cli.models.mlp.mlp", "_partial_": True, "input_dropout": 0.0}
    assert cfg["teacher"]["model"] == {
        **mlp, "widths": [1200, 1200], "dropout": 0.5, "mean": [0.1307], "std": [0.3081]
    }  # fmt: skip
    assert cfg["teacher"]["train"] == {
        **recipe, "epochs": 120, "batch_size": 512, "max_norm": 2.0, "optimizer": {**sgd, "lr": 0.1},
        "scheduler": cosine,
    }  # fmt: skip
    assert cfg["student"]["model"] == {**mlp, "widths": [800, 800], "dropout": 0.0, "mean": [0.0], "std": [1.0]}
    assert cfg["student"]["train"] == {
        **recipe, "epochs": 40, "batch_size": 256, "clip": 1.0, "optimizer": {**sgd, "lr": 0.2},
        "scheduler": {**cosine, "warmup": 0.1},
    }  # fmt: skip
    cfg = OmegaConf.to_container(composed("distill"), resolve=True)
    assert isinstance(cfg, dict)
    assert cfg["teacher"]["model"]["dropout"] == 0.5
    assert cfg["teacher"]["train"] == {
        **recipe, "epochs": 40, "batch_size": 64, "optimizer": {**sgd, "lr": 0.1}, "scheduler": cosine
    }  # fmt: skip
    assert cfg["student"]["train"] == {
        **recipe, "epochs": 100, "batch_size": 64, "clip": 1.0, "scheduler": cosine,
        "optimizer": {**sgd, "lr": 0.3, "weight_decay": 0.0003},
    }  # fmt: skip
