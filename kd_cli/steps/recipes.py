"""What a config says of trainings: checked before data are read, and what of it determines the weights."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from kd_cli.build.identity import identity_of
from kd_cli.build.objects import instantiate
from kd_cli.cli import schema
from kd_cli.errors import ArtifactError, ConfigError, KdError, must, under
from kd_cli.store import run_folder
from kd_cli.store.artifacts import Artifact, open_artifact, read_artifact
from kd_cli.store.models import load_weights
from kd_cli.train.recipe import Recipe

DEFAULTS = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}


def check_recipes(cfg: DictConfig) -> None:
    """Refuses every value of a recipe that no data set and no network could be trained with."""
    for key in _recipes(cfg):
        with under(key.removesuffix(".train")):
            recipe = instantiate(OmegaConf.select(cfg, key), key)
            if not isinstance(recipe, Recipe):
                raise must("train", "a recipe", type(recipe).__name__)
            recipe.values()


def _recipes(cfg: DictConfig) -> Iterator[str]:
    """The keys of all recipes: the student's, the teacher's, and those of the teachers that it is made of."""
    teacher = cfg.get("teacher")
    parts = schema.members(teacher) if isinstance(teacher, DictConfig) else []
    for key in ("student", "teacher", *(f"teacher.{part}" for part in parts)):
        node = OmegaConf.select(cfg, key)
        if not isinstance(node, DictConfig) or schema.owns_its_keys(key, node):
            continue
        if isinstance(node.get("train"), DictConfig):
            yield f"{key}.train"


def recipe_identity(node: Any, role: str) -> dict[str, Any]:
    """What of a recipe determines weights: what is not the default, and what training starts from by its content. The
    layout in memory moves last bits only, as the number of threads does.
    """
    identity = identity_of(node)
    config = {key: value for key, value in identity["config"].items() if key not in DEFAULTS or value != DEFAULTS[key]}
    config.pop("memory_format", None)
    if config.get("start_from") is not None:
        config["start_from"] = open_artifact(start_folder(config["start_from"], role)).content
    return {**identity, "config": config}


def starts(cfg: DictConfig) -> dict[str, Artifact]:
    """The stored models that trainings of this config begin from, by the recipe's key and what is trained by it."""
    found = {}
    for key in _recipes(cfg):
        path = OmegaConf.select(cfg, f"{key}.start_from")
        roles = ("student", *(["baseline"] if cfg.get("baseline") else [])) if key == "student.train" else ("teacher",)
        for role in roles if path is not None else ():
            with under(key.removesuffix(".train")):
                found[f"{key}.start_from of {role}"] = read_artifact(start_folder(str(path), role))
    return found


def start(model: nn.Module, recipe: Recipe, role: str) -> None:
    """Fills an untrained `model` with the weights that its recipe starts from; ArtifactError unless they fit."""
    if recipe.start_from is None:
        return
    try:
        load_weights(model, open_artifact(start_folder(recipe.start_from, role)))
    except ConfigError:
        raise
    except KdError as error:
        raise ArtifactError(f"train.start_from must be the folder of a model that fits: {error}") from error


def start_folder(path: str, role: str) -> Path:
    """The folder of the weights: the path itself, or what a run's folder names as its `role`.

    ConfigError for a baseline that would start from what a teacher taught.
    """
    folder = Path(path)
    if (folder / run_folder.RESULT).is_file():
        content = run_folder.read(folder) or {}
        named = content.get(role)
        name = named.get("artifact") if isinstance(named, dict) else None
        if not isinstance(name, str):
            raise must("train.start_from", f"a run that trained a {role}, or the folder of a model", path)
        found = run_folder.artifact_of(folder, content, name)
        if found is None:
            raise ArtifactError(f"train.start_from={path} names {name}, which is not there any more.")
        folder = found
    if role == "baseline" and "targets" in (read_artifact(folder).manifest.get("identity") or {}):
        hint = "The baseline is to have no teacher. Give the folder of its run, which has one, or baseline=false."
        raise must("train.start_from", "no distilled student where there is a baseline", path, hint)
    return folder
