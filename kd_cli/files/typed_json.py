"""Dataclasses as JSON and back: what is read has the types that its fields state, or is refused."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from reprlib import repr as shortened
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Record = TypeVar("Record")
MOST = 1 << 53  # beyond it, whole numbers are not exact in JSON
WORDS = {str: "text", bool: "true or false", int: f"a whole number from 0 to {MOST}", float: "a number"}


def to_json(value: Any) -> Any:
    """Return a dataclass, and what its fields hold, as mappings, lists and plain values.

    A field that has a default is left out while it holds nothing: None, an empty list or an empty mapping.
    """
    if is_dataclass(value):
        held = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: to_json(each) for field, each in held if _required(field) or each not in (None, [], {})}
    if isinstance(value, Mapping):
        return {key: to_json(each) for key, each in value.items()}
    return [to_json(each) for each in value] if isinstance(value, list | tuple) else value


def from_json(kind: type[Record], content: Any, name: str = "") -> Record:
    """Return parsed JSON as the dataclass `kind`; a key that it does not have is ignored.

    Fields may be `str`, `bool`, `int` (a count: no less than 0), `float`, `Any`, `list`s and `dict`s of these, other
    dataclasses, literals and unions. Raises ValueError naming the field that is missing or of another type.
    """
    read: Record = _read(kind, content, name)
    return read


def _read(kind: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType:
        return _read_union(arguments, value, name)
    if origin is Literal and value in arguments:
        return value
    if origin is list and isinstance(value, list):
        return [_read(arguments[0], each, f"{name}.{k}") for k, each in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _read(arguments[1], each, f"{name}.{key}") for key, each in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return _read_fields(kind, value, f"{name}." if name else "")
    if kind is float and type(value) is int and value <= MOST:
        return float(value)
    if type(value) is kind and (kind is not int or 0 <= value <= MOST):
        return value
    rule = WORDS.get(kind, "a list" if origin is list else "a mapping")
    if origin is Literal:
        rule = f"one of {', '.join(arguments)}"
    raise ValueError(f"{name or 'it'} must be {rule}, got {shortened(value)}")


def _read_union(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    """`T | None`, or one of several plain types, which is taken as it is."""
    if value is None and NoneType in kinds:
        return None
    first, *others = (kind for kind in kinds if kind is not NoneType)
    if others and type(value) not in kinds:
        raise ValueError(f"{name} must be a plain value, got {shortened(value)}")
    return value if others else _read(first, value, name)


def _read_fields(kind: Any, value: dict[str, Any], prefix: str) -> Any:
    hints, known = _hints(kind), {}
    for field in fields(kind):
        if field.name in value:
            known[field.name] = _read(hints[field.name], value[field.name], prefix + field.name)
        elif _required(field):
            raise ValueError(f"it has no {prefix}{field.name}")
    return kind(**known)


def _required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
