"""Every key in a recipe is an argument of what it configures, and belongs to one file."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from composing import check_arguments, composed, names
from omegaconf import OmegaConf

from kd_cli.build.objects import instantiate
from kd_cli.cli.choices import CONFIGS, suited
from kd_cli.train.recipe import Recipe


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
    more = ["model@teacher.model=cnn"] if name in ("checkpoint", "tuned") else []
    cfg = composed("distill", f"{group}={name}", *more)
    assert check_arguments(OmegaConf.to_container(cfg, resolve=True)) >= 6


@pytest.mark.parametrize(("group", "name"), recipes())
def test_a_recipe_states_every_key_that_recipes_have(group: str, name: str) -> None:
    """One that is left out could not be typed."""
    more = ["model@teacher.model=cnn"] if name in ("checkpoint", "tuned") else []
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
        alone = composed("distill", words[1]).student.train[group]
        assert OmegaConf.to_container(node) == OmegaConf.to_container(alone)  # before epochs make milestones of shares
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


def test_every_data_set_names_networks_of_its_own() -> None:
    for dataset in sorted(set(names("dataset")) - {"noise", "magika"}):  # which have an experiment of their own
        named = {group: suited(group, dataset) for group in ("teacher", "student")}
        assert dataset == "digits" or named != {group: suited(group, "digits") for group in named}
        chosen = composed("distill", f"dataset={dataset}")
        for group, name in named.items():
            assert name in names(group)
            typed = composed("distill", f"dataset={dataset}", f"{group}={name}")
            assert OmegaConf.to_container(chosen[group]) == OmegaConf.to_container(typed[group])
    assert (
        composed("distill", "experiment=hinton_mnist").student.model
        == composed("distill", "dataset=mnist").student.model
    )


def test_the_networks_for_folders_of_images_are_no_digit_networks() -> None:
    chosen = composed("distill", "dataset=image_folder")
    assert (chosen.teacher.model.name, chosen.student.model.name) == ("resnet18", "mobilenet_v3_small")


def test_cifars_milestones_are_shares_of_the_run() -> None:
    for words, expected in ((), [150, 180, 210]), (("student.train.epochs=15",), [9, 11, 13]):
        recipe = composed("distill", "dataset=cifar10", "student=resnet20", *words).student.train
        assert recipe.scheduler.milestones == expected
