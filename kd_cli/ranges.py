"""Numbers and the ranges that they must lie in: what a config holds may be anything."""

import math
from typing import Any, TypeGuard

from kd_cli.errors import must


def whole_number(
    key: str,
    value: Any,
    at_least: int,
    at_most: int | None = None,
    *,
    what: str = "a whole number",
    why: str = "",
    null: bool = False,
    remedy: str = "",
) -> None:
    """Refuse the value of `key` unless it is a whole number in this range, ends included, or None where `null` may be.

    `what` names it in the refusal, `why` says where the range comes from; `{}` in the remedy is the key.
    """
    if value is None and null:
        return
    if is_whole(value, at_least) and (at_most is None or value <= at_most):
        return
    bounds = f"≥ {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    raise must(key, f"{what} {bounds}{why}{' or null' if null else ''}", value, remedy, key)


def number(
    key: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    what: str | None = None,
    null: bool = False,
) -> None:
    """Refuse the value of `key` unless it is a finite number in this range, or None where `null` may be."""
    if value is None and null:
        return
    if is_number(value) and all(
        (above is None or value > above, at_least is None or value >= at_least,
         below is None or value < below, at_most is None or value <= at_most)
    ):  # fmt: skip
        return
    if at_least is not None and at_most is not None:
        bounds = f"between {at_least} and {at_most}"
    else:
        given = (("> ", above), ("≥ ", at_least), ("< ", below), ("≤ ", at_most))
        bounds = " and ".join(f"{sign}{bound}" for sign, bound in given if bound is not None)
    if what is None:
        what = "" if " and " in bounds else "a number"
    raise must(key, f"{what} {bounds}{' or null' if null else ''}".strip(), value)


def is_whole(value: Any, at_least: int) -> bool:
    """Return whether this is a whole number of at least so much."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def is_number(value: object) -> TypeGuard[float]:
    """Return whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
