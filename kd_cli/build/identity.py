"""From config to identity: what determines an object, in plain values."""

from typing import Any

from omegaconf import OmegaConf

from kd_cli.build.own_code import OURS, digest_of_source, targets_of, within


def plain(node: Any) -> Any:
    """A config node as plain values, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def identity_of(node: Any) -> dict[str, Any]:
    """What a node determines: its resolved values, and the sources of every `_target_` that is somebody else's, with
    the modules of theirs that it imports.
    """
    config = plain(node)
    named = sorted({target for target in targets_of(config) if not within(target, OURS)})
    sources = {target: digest_of_source(target) for target in named}
    return {"config": config, "sources": sources} if sources else {"config": config}
