"""Every YAML composes and instantiates, every key in a recipe is an argument of what it configures."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kd_cli.build.objects import instantiate
from kd_cli.cli import (
    job,  # registers the schemas and resolvers
    schema,
)
from kd_cli.cli.choices import CONFIGS
from kd_cli.cli.main import commands
from kd_cli.data.resident import Resident
from kd_cli.data.splits import whole
from kd_cli.data.views import show
from kd_cli.teachers.source import Source
from kd_cli.teachers.specialists.network import Specialist
from kd_cli.teachers.specialists.source import Specialists
from kd_cli.teachers.trained import Trained
from kd_cli.train.recipe import Recipe

# What a recipe is for, by the first line of its YAML: the shape of the images and a data set that exists.
SHAPES = {
    "digits": (1, 8, 8), "MNIST": (1, 28, 28), "CIFAR": (3, 32, 32), "folders": (3, 64, 64), "confusable": (1, 12, 12)
}  # fmt: skip


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def composing() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def composed(command: str, *overrides: str) -> DictConfig:
    return compose(command, overrides=list(overrides))


def shape_of(group: str, name: str) -> tuple[int, int, int]:
    first = (CONFIGS / group / f"{name}.yaml").read_text().splitlines()[0]
    found = [shape for word, shape in SHAPES.items() if word in first]
    assert found, f"{group}/{name}.yaml does not say in its first line what it is for"
    return found[0]


def offline(cfg: DictConfig, key: str) -> None:
    """Without pretrained weights, which would have to be downloaded."""
    if OmegaConf.select(cfg, f"{key}.weights") is not None:
        OmegaConf.update(cfg, f"{key}.weights", None)


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
    expected = set(schema.SCHEMAS[command if command != "sweep" else "distill"].__dataclass_fields__)
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


def accepted(target: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(get_object(target)).parameters)


def nodes(config: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a _target_ in a config."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield path, config
        for key, value in config.items():
            yield from nodes(value, f"{path}.{key}" if path else str(key))


def check_arguments(config: Any) -> int:
    count = 0
    for path, node in nodes(config):
        given = {key for key in node if not key.startswith("_")}
        parameters = accepted(node["_target_"])
        assert given <= set(parameters), f"{path}: {sorted(given - set(parameters))}"
        if not node.get("_partial_"):
            needed = {
                name
                for name, parameter in parameters.items()
                if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
            }
            assert needed <= given, f"{path}: {sorted(needed - given)}"
        count += 1
    return count


@pytest.mark.parametrize("dataset", names("dataset"))
def test_every_data_set_names_a_function_with_these_arguments(dataset: str) -> None:
    node = OmegaConf.to_container(composed("distill", f"dataset={dataset}").dataset)
    assert check_arguments(node) == 1
    assert "seed" in node
    assert "validation" in node or dataset == "noise", "which has no labels to be stratified by"


def recipes() -> list[tuple[str, str]]:
    return [(group, name) for group in ("teacher", "student") for name in names(group)]


@pytest.mark.parametrize(("group", "name"), recipes())
def test_every_key_of_a_recipe_is_an_argument(group: str, name: str) -> None:
    more = ["model@teacher.model=cnn"] if name == "checkpoint" else []
    cfg = composed("distill", f"{group}={name}", *more)
    assert check_arguments(OmegaConf.to_container(cfg, resolve=True)) >= 6


@pytest.mark.parametrize(("group", "name"), recipes())
def test_a_recipe_states_every_key_that_recipes_have(group: str, name: str) -> None:
    """One that is left out could not be typed."""
    more = ["model@teacher.model=cnn"] if name == "checkpoint" else []
    train = composed("distill", f"{group}={name}", *more)[group].get("train")
    assert train is None or set(train) - {"_target_"} == set(inspect.signature(Recipe).parameters)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_file_sets_keys_of_what_another_choice_may_replace(path: Path) -> None:
    """A recipe's `model: {mean: …}` would be merged into whatever model is chosen instead, and so would a rate."""
    content = yaml.safe_load(path.read_text())
    replaceable = ("model", "optimizer", "scheduler", "augment", "objective")
    assert [p for p, value in places(content) if p.rpartition(".")[2] in replaceable and isinstance(value, dict)] == []


def places(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if value is not None and key != "defaults":
                yield f"{prefix}{key}", value
                yield from places(value, f"{prefix}{key}.")


def own_keys(group: str, name: str) -> set[str]:
    content = yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())
    bases = [default for default in content.pop("defaults", []) if isinstance(default, str) and default != "_self_"]
    return set(content).union(*(own_keys(group, base) for base in bases))


@pytest.mark.parametrize("recipe", names("student"))
@pytest.mark.parametrize("model", ["cnn", "mlp_64", "resnet20", "wrn_16_2", "torchvision_resnet18"])
def test_a_model_has_its_own_keys_and_no_other_under_any_students_recipe(recipe: str, model: str) -> None:
    cfg = composed("distill", f"student={recipe}", f"model@student.model={model}")
    assert set(cfg.student.model) == own_keys("model", model)
    alone = composed("distill", f"model@student.model={model}")
    assert cfg.student.model == alone.student.model


@pytest.mark.parametrize("recipe", ["cnn", "cnn_digits", "mlp_1200", "resnet56", "wrn_40_2", "resnet18", "resnet50"])
def test_a_model_has_its_own_keys_and_no_other_under_any_teachers_recipe(recipe: str) -> None:
    for model in names("model"):
        cfg = composed("train_teacher", f"teacher={recipe}", f"model@teacher.model={model}")
        assert set(cfg.teacher.model) == own_keys("model", model)
        assert check_arguments(OmegaConf.to_container(cfg.teacher.model, resolve=True)) == 1


@pytest.mark.parametrize("recipe", names("recipe"))
@pytest.mark.parametrize("group", ["optimizer", "scheduler"])
def test_another_optimizer_or_scheduler_has_its_own_values_under_any_recipe(recipe: str, group: str) -> None:
    for name in names(group):
        words = f"recipe@student.train={recipe}", f"{group}@student.train.{group}={name}"
        node = composed("distill", *words).student.train[group]
        assert set(node) == own_keys(group, name)
        assert node == composed("distill", words[1]).student.train[group]
        check_arguments(OmegaConf.to_container(node, resolve=True))


@pytest.mark.parametrize("recipe", names("recipe"))
def test_a_recipe_can_be_chosen_by_its_name_and_stays_a_recipe(recipe: str) -> None:
    cfg = composed("distill", f"recipe@student.train={recipe}", f"recipe@teacher.train={recipe}", "precision=32")
    assert isinstance(instantiate(cfg.student.train, "student.train"), Recipe)
    assert (cfg.student.train.precision, cfg.teacher.train.precision) == ("32", "auto")


@pytest.mark.parametrize(
    ("dataset", "mean", "std"),
    [
        ("digits", [0.0], [1.0]),
        ("image_folder", [0.0], [1.0]),
        ("mnist", [0.1307], [0.3081]),
        ("fashion_mnist", [0.2860], [0.3530]),
        ("cifar10", [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        ("cifar100", [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
    ],
)
def test_normalisation_is_the_data_sets(dataset: str, mean: list[float], std: list[float]) -> None:
    words = (f"dataset={dataset}", "student=resnet20", "teacher=mlp_1200", "transfer.dataset=null")
    cfg = OmegaConf.to_container(composed("distill", *words), resolve=True)
    assert isinstance(cfg, dict)
    for role in ("student", "teacher"):
        assert (cfg[role]["model"]["mean"], cfg[role]["model"]["std"]) == (mean, std)
    typed = composed("distill", *words, "normalisation.mean=[0.5]", "student.model.std=[2]")
    assert (typed.student.model.mean, typed.teacher.model.mean) == ([0.5], [0.5])
    assert (typed.student.model.std, typed.teacher.model.std) == ([2], std)


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


def network_of(model: Any, shape: tuple[int, int, int]) -> nn.Module:
    network: nn.Module = model(num_classes=7, input_shape=shape)
    network.eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, *shape))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    return network


NOT_TRAINED = ("artifact", "checkpoint", "ensemble", "specialists")  # or not by a recipe for one network


@pytest.mark.parametrize("name", [name for name in names("teacher") if name not in NOT_TRAINED])
def test_every_teacher_is_built(name: str) -> None:
    cfg = composed("distill", f"teacher={name}")
    offline(cfg, "teacher.model")
    source = instantiate(cfg.teacher, "teacher")
    assert isinstance(source, Trained)
    source.train.check(network_of(source.model, shape_of("teacher", name)), None)


@pytest.mark.parametrize("generalist", [name for name in names("teacher") if name not in NOT_TRAINED])
def test_every_trained_teacher_can_have_specialists(generalist: str) -> None:
    cfg = composed("distill", "teacher=specialists", f"teacher@teacher.generalist={generalist}")
    schema.check("distill", cfg)
    offline(cfg, "teacher.generalist.model")
    source = instantiate(cfg.teacher, "teacher")
    assert isinstance(source, Specialists)
    assert isinstance(source.generalist, Trained)
    source.check(classes=10)
    build, shape = source.generalist.model, shape_of("teacher", generalist)
    Specialist(5, shape, build).start_from(network_of(build, shape), [0, 2, 3, 6], 7)


@pytest.mark.parametrize("name", names("student"))
def test_every_student_is_built_and_holds_no_augmentation(name: str) -> None:
    cfg = composed("distill", f"student={name}")
    offline(cfg, "student.model")
    recipe = instantiate(cfg.student.train, "student.train")
    recipe.check(network_of(instantiate(cfg.student.model, "student.model"), shape_of("student", name)), None)
    assert "augment" not in cfg.student


def test_the_students_precision_follows_the_key_that_people_type_the_teachers_is_its_own() -> None:
    precision = "16-mixed"  # no recipe has it
    for name in names("student"):
        cfg = composed("distill", f"student={name}", f"precision={precision}")
        assert str(cfg.student.train.precision) == precision
    for name in set(names("teacher")) - set(NOT_TRAINED):
        own = composed("distill", f"teacher={name}").teacher.train.precision
        assert composed("distill", f"teacher={name}", f"precision={precision}").teacher.train.precision == own


@pytest.mark.parametrize("name", names("model"))
def test_every_model_takes_the_place_of_a_students(name: str) -> None:
    cfg = composed("distill", f"model@student.model={name}")
    offline(cfg, "student.model")
    shape = (3, 64, 64) if "torchvision" in name else (1, 28, 28)
    network_of(instantiate(cfg.student.model, "student.model"), shape)


@pytest.mark.parametrize("optimizer", names("optimizer"))
@pytest.mark.parametrize("scheduler", names("scheduler"))
def test_every_optimizer_goes_with_every_scheduler(optimizer: str, scheduler: str) -> None:
    cfg = composed(
        "distill", f"optimizer@student.train.optimizer={optimizer}", f"scheduler@student.train.scheduler={scheduler}"
    )
    assert check_arguments(OmegaConf.to_container(cfg.student, resolve=True)) == 4
    recipe = instantiate(cfg.student.train, "student.train")
    made, schedule = recipe.build(nn.Linear(2, 2), steps=3)
    for _ in range(3 * recipe.epochs):
        made.step()
        schedule.step()


@pytest.mark.parametrize("name", names("augment"))
def test_every_augmentation_is_built_and_keeps_the_shape(name: str) -> None:
    cfg = composed("distill", f"augment@transfer.augment={name}")
    assert check_arguments(OmegaConf.to_container(cfg.transfer.augment)) == 1
    augment = instantiate(cfg.transfer.augment, "transfer.augment")
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    split = whole(Resident(images), torch.arange(3))
    (seen,) = show(split, [torch.arange(3)], torch.device("cpu"), augment, 0, 1)
    assert (seen.images.shape, seen.images.dtype) == (images.shape, torch.uint8)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("key", ["transfer.augment", "teacher.augment"])
def test_a_mixture_takes_what_both_images_go_through_first_from_the_same_group(name: str, key: str) -> None:
    assert OmegaConf.select(composed("distill", f"augment@{key}={name}"), f"{key}.inner", default="absent") is None
    cfg = composed("distill", f"augment@{key}={name}", f"augment@{key}.inner=crop_flip", f"{key}.inner.pixels=3")
    assert check_arguments(OmegaConf.to_container(cfg, resolve=True)[key.split(".")[0]]["augment"]) == 2
    assert instantiate(OmegaConf.select(cfg, key), key).inner.pixels == 3


@pytest.mark.parametrize("name", names("objective"))
def test_every_objective_is_built_from_the_keys_that_people_type(name: str) -> None:
    cfg = composed("distill", f"objective={name}", "temperature=3", "soft_weight=0.5", "hard_weight=0.25")
    objective = instantiate(cfg.objective, "objective")
    assert getattr(objective, "temperature", 3) == 3
    assert (objective.soft_weight, objective.hard_weight) == (0.5, 0.25)
