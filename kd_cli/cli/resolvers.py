"""What a config may compute: `${budget:10,40}` and the like. Imports no torch."""

import secrets
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from kd_cli.cli.choices import suited
from kd_cli.ranges import is_number


def register_resolvers() -> None:
    """Makes the resolvers known to OmegaConf."""
    OmegaConf.register_new_resolver("kd_command", lambda name: str(name).replace("_", "-"), replace=True)
    OmegaConf.register_new_resolver("kd_hex", lambda: secrets.token_hex(3), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("budget", _budget, replace=True)
    OmegaConf.register_new_resolver("plus", _plus, replace=True)
    OmegaConf.register_new_resolver("suited", suited, replace=True)
    OmegaConf.register_new_resolver("shares", _shares, replace=True)
    OmegaConf.register_new_resolver("times", _times, replace=True)
    OmegaConf.register_new_resolver("same_steps", _same_steps, replace=True)


def _budget(short: Any, full: Any, *, _root_: DictConfig) -> Any:
    """`${budget:10,40}` is 10 with budget=short, else 40."""
    return short if OmegaConf.select(_root_, "budget") == "short" else full


def _plus(key: str, more: int, *, _root_: DictConfig) -> Any:
    """`${plus:seed,-10}` is the seed less 10: what a job whose seed is another left behind."""
    return OmegaConf.select(_root_, key) + more


def _shares(epochs: Any, shares: list[float]) -> ListConfig:
    """`${shares:240,[0.5,0.75]}` is [120, 180]: the epochs at whose start these shares of the run are over."""
    if not is_number(epochs):  # which is refused by its own name
        return ListConfig([1])
    return ListConfig([max(1, round(epochs * share)) for share in shares])


def _times(key: str, factor: int, *, _root_: DictConfig) -> Any:
    """`${times:seed,10}` is ten times the seed: the first of ten members that no other seed has."""
    return OmegaConf.select(_root_, key) * factor


def _same_steps(epochs: int, fraction: float) -> int:
    """How many epochs of this fraction of a transfer set show as many samples as `epochs` of all of it."""
    return round(epochs / fraction)
