"""What a teacher is: what it states, and what it was made from."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from kd_cli.build.identity import identity_of
from kd_cli.build.own_code import within
from kd_cli.errors import KdError, first_line, must
from kd_cli.store.models import trained_as
from kd_cli.teachers.artifact import Stored
from kd_cli.teachers.identity import Opaque
from kd_cli.teachers.source import Single


def is_own(source: Single) -> bool:
    """Whether a teacher is a person's own: kd knows nothing of its parameters."""
    return not within(type(source).__module__, ["kd_cli"])


def answers_of(source: Single, config: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """Return what determines the answers of `network`, which `config` describes and `source` gave; raise ConfigError
    where the teacher does not state it.
    """
    stated = _stated(source, network)
    if is_own(source):
        made_from = {key: value for key, value in config.items() if key != "online"}
        return {"stated": stated, "source": identity_of(made_from)}
    if isinstance(source, Stored):
        return stated | {"model": identity_of(trained_as(Path(source.path)))}
    return stated | {"model": identity_of(config["model"])} if "model" in config else stated


def _stated(source: Single, network: nn.Module) -> dict[str, Any]:
    name = type(source).__name__
    try:
        stated = source.identity(network)
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
