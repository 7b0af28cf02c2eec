"""Knowledge distillation from the command line; from Python, `kd_cli.load(path)` gives a stored model."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from kd_cli.store.models import load


def __getattr__(name: str) -> Any:  # torch is imported by those who load a model, not by `kd --help`
    if name == "load":
        from kd_cli.store.models import load

        return load
    raise AttributeError(f"module 'kd_cli' has no attribute {name!r}")
