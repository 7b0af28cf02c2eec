"""What of a recipe determines weights, and what a training starts from."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kd_cli.build.identity import identity_of
from kd_cli.errors import ArtifactError, ConfigError, KdError, must
from kd_cli.files.digests import digests_of
from kd_cli.progress import log
from kd_cli.store import run_folder
from kd_cli.store.artifacts import open_artifact, read_artifact
from kd_cli.store.foreign_file import read_weights
from kd_cli.store.matching import match, misfit
from kd_cli.store.models import not_numbers, stored_weights
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
        kept["start_from"] = started_from(kept["start_from"], role)[1]
    return {**identity, "config": kept}


def started_from(path: str, role: str) -> tuple[Path | None, str]:
    """Return the folder of the stored model that a training begins from, None for a file from elsewhere, and a digest
    of its weights.
    """
    if Path(path).is_file():
        return None, digests_of([Path(path)], "reading")[Path(path).name]
    artifact = open_artifact(start_folder(path, role))
    return artifact.folder, artifact.content


def start(model: nn.Module, recipe: Recipe, role: str, classes: int) -> None:
    """Fill an untrained `model` with the weights that its recipe starts from; raise ArtifactError unless they fit.

    Where they are those of a network for another number of classes, its output layer stays new, and that is said.
    """
    if recipe.start_from is None:
        return
    path, what = recipe.start_from, "folder of a model"
    try:
        if Path(path).is_file():
            what = "file of weights"
            state = read_weights(Path(path), ".train.start_from")
        else:
            artifact = open_artifact(start_folder(path, role))
            state = stored_weights(artifact)
        fill(model, state, classes, f"{role}: begins from {path}")
    except ConfigError:
        raise
    except KdError as error:
        if error.key:  # it says itself what is wrong with the file
            raise
        raise ArtifactError(f"{{}} must be the {what} that fits: {error}", "", ".train.start_from") from error


def fill(model: nn.Module, state: Mapping[str, Tensor], classes: int, said: str) -> None:
    """Fill a network with weights from elsewhere, but for an output layer of another number of classes; `said` begins
    what is told of that. Raise ArtifactError, and change nothing, where anything else does not fit.
    """
    found = match(model, state, classes)
    others = replace(found, head=[]) if found.head else found
    if problems := misfit(others, state, model.state_dict()):
        raise ArtifactError(f"keys {problems}.")
    taken = {name: value for name, value in found.tensors.items() if name not in found.head}
    if name := next(not_numbers(taken, dict(model.named_parameters())), None):
        raise ArtifactError(f"{name} holds what are no numbers.")
    if found.outside:
        log.info("%s; left out, for they are no part of the network: %s", said, ", ".join(found.outside))
    if found.head:
        theirs, names = len(found.tensors[found.head[0]]), ", ".join(found.head)
        log.info("%s with a new output layer (%s): %d classes there, %d here", said, names, theirs, classes)
    model.load_state_dict(taken, strict=False)


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
