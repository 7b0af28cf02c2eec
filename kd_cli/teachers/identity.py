"""What determines a teacher's answers, in plain values that a teacher states."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kd_cli.errors import must

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), torch.dtype, torch.device, torch.layout)
EVERY_MODULE_HAS = frozenset(vars(nn.Module()))


class Opaque(Exception):
    """Something has no bytes that stay the same."""


def weights_of(network: nn.Module) -> dict[str, str]:
    """Return the parameters and buffers of a network, as SHA-256. Raises Opaque where it has none."""
    if not any(value.numel() for value in network.state_dict().values()):
        raise Opaque("no parameters and no buffers")
    return {"weights": _weights(network)}


def network_of(network: nn.Module) -> dict[str, str]:
    """Weights and structure of a network: the class and the plain attributes of each part.

    Raises Opaque where a part holds anything else, such as a session, a connection or a file: what it would answer
    cannot be told.
    """
    try:
        return weights_of(network) | {"structure": hashlib.sha256(_structure("", network).encode()).hexdigest()}
    except RecursionError:
        raise Opaque("parts that hold one another") from None


def file_of(path: str | Path) -> dict[str, str]:
    """Return the content of a file, as SHA-256. Raises ConfigError where it cannot be read."""
    sha = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(1 << 20):
                sha.update(chunk)
    except OSError as error:
        raise must(".", f"one whose file can be read ({error.strerror})", str(path)) from error
    return {"sha256": sha.hexdigest()}


def _weights(network: nn.Module) -> str:
    sha = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(_bytes(value))
    return sha.hexdigest()


def _structure(where: str, network: nn.Module) -> str:
    parts = network.named_modules(prefix=where, remove_duplicate=False)
    return "\n".join(f"{name} {line}" for name, part in parts for line in _lines(f"{name}." if name else "", part))


def _lines(where: str, module: nn.Module) -> Iterator[str]:
    kind = type(module)
    yield f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.startswith("torch.nn."):
        yield module.extra_repr()
        return
    if isinstance(module, torch.jit.ScriptModule):
        raise Opaque(f"{where.rstrip('.') or 'code'} (a scripted network)")
    for key, value in sorted(vars(module).items()):
        if key not in EVERY_MODULE_HAS:
            yield f"{key} = {_plain(f'{where}{key}', value)}"


def _plain(where: str, value: Any) -> str:
    """A value in words that are the same for the same value."""
    match value:
        case Enum():
            return str(value)
        case _ if isinstance(value, PLAIN) and type(value).__module__ in ("builtins", "torch"):
            return repr(value)
        case Tensor():
            return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(_bytes(value)).hexdigest()}"
        case np.ndarray() if value.dtype != object:
            return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
        case np.generic():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(_plain(f'{where}[{k}]', each) for k, each in enumerate(value))}]"
        case set() | frozenset():
            return f"{{{', '.join(sorted(_plain(where, each) for each in value))}}}"
        case Mapping():
            items = (f"{_plain(where, key)}: {_plain(f'{where}[{key!r}]', each)}" for key, each in value.items())
            return f"{{{', '.join(items)}}}"
        case type() | BuiltinFunctionType() if not _bound(value):
            return f"{value.__module__}.{value.__qualname__}"
        case FunctionType() if value.__closure__ is None:
            return f"{value.__module__}.{value.__qualname__}"
        case ModuleType():
            return value.__name__
        case partial():
            return _plain(where, [value.func, value.args, value.keywords])
        case nn.Module():  # one that is kept from its owner's parameters
            return f"{_structure(where, value)} {_weights(value)}"
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _plain(where, {field.name: getattr(value, field.name) for field in fields(value)})
    raise Opaque(f"{where} ({type(value).__name__})")


def _bound(function: Any) -> bool:
    """Whether it is the method of an object, which may hold anything."""
    return not isinstance(function, type) and not isinstance(getattr(function, "__self__", None), ModuleType | None)


def _bytes(value: Tensor) -> bytes:
    flat: bytes = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return flat
