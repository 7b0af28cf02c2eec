"""What a teacher is: what it states, and what it was made from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from kd_cli.build.identity import identity_of
from kd_cli.build.own_code import within
from kd_cli.errors import KdError, first_line, must
from kd_cli.store.models import trained_as
from kd_cli.teachers.artifact import Stored
from kd_cli.teachers.identity import Opaque
from kd_cli.teachers.source import Answered, Single
from kd_cli.teachers.teacher import Answering


def is_own(source: Single | Answered) -> bool:
    """Return whether a teacher is a person's own: kd knows nothing of its parameters."""
    return not within(type(source).__module__, ["kd_cli"])


def answers_of(source: Single, config: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """Return what determines the answers of `network`, which `config` describes and `source` gave; raise ConfigError
    where the teacher does not state it.
    """
    stated = _stated(source, lambda: source.identity(network))
    if is_own(source):
        return _with_source(stated, config)
    if isinstance(source, Stored):
        return stated | {"model": identity_of(trained_as(Path(source.path)))}
    return stated | {"model": identity_of(config["model"])} if "model" in config else stated


def told_by(source: Answered, config: dict[str, Any], answering: Answering) -> dict[str, Any]:
    """Return what determines the answers of `answering`, which `source` gave; raise ConfigError as `answers_of`."""
    stated = _stated(source, answering.identity)
    return _with_source(stated, config) if is_own(source) else stated


def _with_source(stated: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    made_from = {key: value for key, value in config.items() if key != "online"}
    return {"stated": stated, "source": identity_of(made_from)}


def _stated(source: Single | Answered, state: Callable[[], Any]) -> dict[str, Any]:
    name = type(source).__name__
    try:
        stated = state()
        if isinstance(stated, dict) and stated:
            read: dict[str, Any] = json.loads(json.dumps(stated))
            return read
    except Opaque as error:
        raise must(
            ".",
            "one that states what determines its answers",
            name,
            f"Its network holds {error}. Give {name} a method identity(network) that returns it: the digest of a file, "
            'as in {"file": file_of(self.file)}, or the address and revision of a service.',
        ) from None
    except KdError:
        raise
    except Exception as error:  # a teacher may be anybody's
        raise must(".", "one that can state its identity", name, f"It failed: {first_line(error)}.") from error
    raise must(".", "one whose identity is a mapping with something in it", name, f"It states {stated!r}.")
