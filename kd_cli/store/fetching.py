"""A stored network is built without its published weights: it has its own."""

from typing import Any

from kd_cli.build.objects import stands_for
from kd_cli.models import hf, pretrained, timm

FETCH = (hf.hf, timm.timm)  # what reads or downloads unless it is told not to


def without_fetching(node: Any) -> Any:
    """Return a checked config, in which no network begins with published weights: a stored one has its own."""
    if isinstance(node, list):
        return [without_fetching(each) for each in node]
    if not isinstance(node, dict):
        return node
    own = {key: without_fetching(value) for key, value in node.items()}
    target = own.get("_target_")
    fetches = any(stands_for(target, known) for known in FETCH) or (
        own.get("weights") is not None and is_torchvisions(target)
    )
    return own | {"fetch": False} if fetches else own


def is_torchvisions(target: Any) -> bool:
    """Return whether a checked name stands for kd's constructor of torchvision's networks."""
    return stands_for(target, pretrained.torchvision)
