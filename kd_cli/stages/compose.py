"""From config to objects, and from config to identity: the one place that instantiates."""

import hashlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf

from kd_cli.errors import ArtifactError, ConfigError, KdError, first_line

OURS = ("kd_cli", "torch", "torchvision")  # versioned by kd and by torch: no digest of their sources
# What a config out of an artifact may name.
ALLOWED = ("kd_cli.models", "kd_cli.datasets", "torch.nn", "torchvision.models")


def instantiate(node: Any, key: str, **arguments: Any) -> Any:
    """The object that a config node describes. A refusal by its constructor comes through as it is."""
    if isinstance(node, DictConfig) and "_target_" not in node:
        raise ConfigError(
            f"{key} must be a mapping with a _target_, got one with {', '.join(map(str, node)) or 'nothing'}."
        )
    try:
        return hydra_instantiate(node, **arguments, _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KdError):
                raise cause from None
            if isinstance(cause, KeyboardInterrupt | MemoryError):
                raise cause from None
            innermost, cause = cause, cause.__cause__
        raise ConfigError(f"{key} cannot be built: {first_line(innermost)} ({_where(error, key)})") from error


@contextmanager
def owner(name: str) -> Iterator[None]:
    """Completes the key in a refusal: a recipe says `train.epochs`, the person typed `student.train.epochs`."""
    try:
        yield
    except KdError as error:
        if str(error).startswith(("train.", "model.", "augment.", "path ")):
            raise type(error)(f"{name}.{error}") from error
        raise


def plain(node: Any) -> Any:
    """A config node as plain values, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def identity_of(node: Any) -> dict[str, Any]:
    """What a node determines: its resolved values, and the sources of every `_target_` that is somebody else's."""
    config = plain(node)
    sources = {target: _source_digest(target) for target in sorted(set(_targets(config))) if not _within(target, OURS)}
    return {"config": config, "sources": sources} if sources else {"config": config}


def check_stored(config: Any, trusted: Sequence[str], where: Path) -> None:
    """ArtifactError unless every `_target_` in a stored config is on the allow-list.

    The object itself must come from there too: a module of the list may hold others' names.
    """
    roots = (*ALLOWED, *trusted)
    for target in _targets(config):
        allowed = isinstance(target, str) and _within(target, roots)
        if allowed and not _within(target, tuple(trusted)):
            try:
                allowed = _within(str(getattr(get_object(target), "__module__", "")), ALLOWED)
            except (ImportError, AttributeError, ValueError, InstantiationException):
                allowed = False
        if not allowed:
            raise ArtifactError(
                f"{where} names {target!r}, which may not be built from a stored config (allowed: {', '.join(roots)}). "
                f"If you trust it, add its module: 'trusted_modules=[{str(target).rpartition('.')[0]}]'."
            )


def _targets(config: Any) -> Iterator[Any]:
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "_target_":
                yield value
            yield from _targets(value)
    elif isinstance(config, list):
        for value in config:
            yield from _targets(value)


def _within(name: str, roots: Sequence[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def _source_digest(target: str) -> str:
    """SHA-256 of the file that a dotted name is defined in."""
    module = target
    while module := module.rpartition(".")[0]:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            continue
        if spec is not None and spec.origin and Path(spec.origin).is_file():
            return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    raise ConfigError(
        f"_target_ must be a name that can be imported, got {target!r}. Is its file in the current folder?"
    )


def _where(error: InstantiationException, key: str) -> str:
    last = str(error).strip().splitlines()[-1]
    return f"at {key}.{last.removeprefix('full_key: ')}" if last.startswith("full_key: ") else f"at {key}"
