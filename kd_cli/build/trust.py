"""What a config that comes out of an artifact may name."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from hydra.utils import get_object
from torch import nn

from kd_cli.build.own_code import found, within
from kd_cli.data.samples import Dataset
from kd_cli.errors import ArtifactError

MODELS = ("kd_cli.models", "kd_cli.teachers.specialists.network", "torch.nn", "torchvision.models")
DATASETS = ("kd_cli.datasets",)
DOWNLOADS = ("weights", "weights_backbone", "pretrained", "pretrained_backbone")


def check_stored(config: Any, trusted: Sequence[str], where: Path, allowed: Sequence[str] = MODELS) -> None:
    """Raise ArtifactError unless a stored config is plain values, and every `_target_` in it a network or a data set of
    `allowed` or anything of `trusted`.

    The object itself must come from there too: a module of the list may hold others' names.
    """
    for node in _mappings(config, where):
        keys = {key for key in node if key.startswith("_")}
        target = node.get("_target_")
        if isinstance(target, str) and within(target, trusted):
            if not found(target) and target.partition(".")[0] not in sys.modules:
                hint = "Start kd in the folder of its file, or name that folder in PYTHONPATH."
                raise ArtifactError(f"{where} names {target!r}, which is neither installed nor here. {hint}")
            _refuse_downloads(node, target, where)
            continue
        nested = allowed == DATASETS and node is not config
        if "_target_" in keys and (nested or not isinstance(target, str) or not _buildable(target, allowed)):
            roots = ", ".join((*allowed, *trusted))
            raise ArtifactError(
                f"{where} names {target!r}, which may not be built from a stored config (allowed: {roots}). "
                f"If you trust it, add its module: 'trusted_modules=[{str(target).rpartition('.')[0]}]'."
            )
        if other := sorted(keys - {"_target_", "_partial_"}):
            raise ArtifactError(f"{where} must hold arguments by name alone, got {', '.join(other)}.")
        if isinstance(target, str):
            _refuse_downloads(node, target, where)


def _refuse_downloads(node: dict[str, Any], target: str, where: Path) -> None:
    """Of a network of torchvision's own, by whatever name it is called. The name has been found harmless: it is looked
    up here.
    """
    if any(node.get(key) for key in DOWNLOADS):
        try:
            theirs = within(str(get_object(target).__module__), ["torchvision"])
        except Exception:  # an import or a lookup that fails as it likes
            theirs = within(target, ["torchvision"])
        if theirs:
            raise ArtifactError(f"{where} names {target!r} with weights to download: a stored model has its own.")


def _mappings(config: Any, where: Path) -> Iterator[dict[str, Any]]:
    """Every mapping in a tree of plain values; ArtifactError for what is none, or would be resolved to another."""
    if isinstance(config, dict):
        if not all(isinstance(key, str) for key in config):
            raise ArtifactError(f"{where} must have words as keys, got {list(config)[:10]}.")
        yield config
        for value in (*config, *config.values()):
            yield from _mappings(value, where)
    elif isinstance(config, list):
        for value in config:
            yield from _mappings(value, where)
    elif (isinstance(config, str) and ("${" in config or config == "???")) or not isinstance(
        config, str | int | float | None
    ):
        raise ArtifactError(f"{where} must hold plain values, got {str(config)[:100]!r}, which is not resolved.")


def _buildable(target: str, allowed: Sequence[str]) -> bool:
    """Whether a name stands for a network or a data set, by its class or by what its function says it returns."""
    if not within(target, allowed):
        return False
    try:
        found = get_object(target)
        made = found if isinstance(found, type) or within(target, ["torch"]) else get_type_hints(found).get("return")
    except Exception:  # an import or a lookup that fails as it likes
        return False
    if not within(str(getattr(found, "__module__", "")), allowed) or found.__name__.startswith("_"):
        return False
    if within(target, ["torchvision"]):
        from torchvision import models

        return found.__name__ in models.list_models(module=models)
    return isinstance(made, type) and issubclass(made, nn.Module | Dataset)
