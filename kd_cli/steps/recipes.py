"""What of a recipe determines weights, and what a training starts from."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from torch import nn

from kd_cli.build.identity import identity_of
from kd_cli.errors import ArtifactError, ConfigError, KdError, must
from kd_cli.store import run_folder
from kd_cli.store.artifacts import open_artifact, read_artifact
from kd_cli.store.models import load_weights
from kd_cli.train.recipe import Recipe

DEFAULTS = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}


def recipe_identity(config: dict[str, Any], role: str) -> dict[str, Any]:
    """Return what of a recipe determines weights: what is not the default, and what training starts from by its
    content. The layout in memory moves last bits only, as the number of threads does.
    """
    identity = identity_of(config)
    kept = {key: value for key, value in identity["config"].items() if key not in DEFAULTS or value != DEFAULTS[key]}
    kept.pop("memory_format", None)
    if kept.get("start_from") is not None:
        kept["start_from"] = open_artifact(start_folder(kept["start_from"], role)).content
    return {**identity, "config": kept}


def start(model: nn.Module, recipe: Recipe, role: str) -> None:
    """Fill an untrained `model` with the weights that its recipe starts from; raise ArtifactError unless they fit."""
    if recipe.start_from is None:
        return
    try:
        load_weights(model, open_artifact(start_folder(recipe.start_from, role)))
    except ConfigError:
        raise
    except KdError as error:
        raise ArtifactError(
            f"{{}} must be the folder of a model that fits: {error}", "", ".train.start_from"
        ) from error


def start_folder(path: str, role: str) -> Path:
    """Return the folder of the weights: the path itself, or what a run's folder names as its `role`.

    Raise ConfigError for a baseline that would start from what a teacher taught.
    """
    folder = Path(path)
    if (folder / run_folder.RESULT).is_file():
        content = run_folder.read(folder) or {}
        named = content.get(role)
        name = named.get("artifact") if isinstance(named, dict) else None
        if not isinstance(name, str):
            raise must(".train.start_from", f"a run that trained a {role}, or the folder of a model", path)
        found = run_folder.artifact_of(folder, content, name)
        if found is None:
            gone = f"{{}}={path} names {name}, which is not there any more."
            raise ArtifactError(gone, "", ".train.start_from")
        folder = found
    if role == "baseline" and "targets" in (read_artifact(folder).manifest.get("identity") or {}):
        hint = "The baseline is to have no teacher. Give the folder of its run, which has one, or baseline=false."
        raise must(".train.start_from", "no distilled student where there is a baseline", path, hint)
    return folder
