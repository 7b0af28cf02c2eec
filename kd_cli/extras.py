"""Libraries that only some uses need: each is an extra of the installation, and imported where it is used."""

from importlib import import_module
from types import ModuleType

from kd_cli.errors import ConfigError

DISTRIBUTION = "kd-distill"


def library(module: str, extra: str, what: str) -> ModuleType:
    """Return an imported library; raise ConfigError where it is not installed, with the extra that `what` needs, as in
    `library("timm", "timm", "teacher=timm")`.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # it is there, and something that it needs is not
        needed = f"{what} needs the library {error.name}, which is not installed."
        raise ConfigError(needed, f"Install it: pip install '{DISTRIBUTION}[{extra}]'.") from error
