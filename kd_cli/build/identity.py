"""From config to identity: what determines an object, in plain values."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from omegaconf import OmegaConf

from kd_cli.build.own_code import OURS, digest_of_source, targets_of, within

Built = TypeVar("Built", covariant=True)


@dataclass(frozen=True)
class Described(Generic[Built]):
    """An object, and the plain config that it was built from."""

    built: Built
    config: Any

    @property
    def identity(self) -> dict[str, Any]:
        """What the config determines: see `identity_of`."""
        return identity_of(self.config)


def plain(node: Any) -> Any:
    """Return a config node as plain values, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def identity_of(node: Any) -> dict[str, Any]:
    """Return what a node determines: its resolved values, and the sources of every `_target_` that is somebody else's,
    with the modules of theirs that it imports.
    """
    config = plain(node)
    named = sorted({target for target in targets_of(config) if not within(target, OURS)})
    sources = {target: digest_of_source(target) for target in named}
    return {"config": config, "sources": sources} if sources else {"config": config}
