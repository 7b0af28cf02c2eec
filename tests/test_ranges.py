"""Whole numbers and numbers in their ranges: what a config holds may be anything."""

import math
from typing import Any

import pytest

from kd_cli.errors import ConfigError
from kd_cli.ranges import number, whole_number


def refused(check: Any, value: Any, **bounds: Any) -> str:
    with pytest.raises(ConfigError) as refusal:
        check("key", value, **bounds)
    return str(refusal.value)


@pytest.mark.parametrize("value", [True, False, None, 1.0, "1", [1], math.nan, 0, -1])
def test_what_is_no_whole_number_from_one_on(value: Any) -> None:
    shown = value if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)
    assert refused(whole_number, value, at_least=1) == f"key must be a whole number ≥ 1, got {shown}."


def test_both_ends_of_a_range_belong_to_it() -> None:
    for value in (1, 5, 7):
        whole_number("key", value, 1, 7)
    said = "key must be a whole number from 1 to 7, got {}."
    assert refused(whole_number, 8, at_least=1, at_most=7) == said.format(8)
    assert refused(whole_number, 0, at_least=1, at_most=7) == said.format(0)


def test_null_where_it_may_be() -> None:
    whole_number("key", None, 1, null=True)
    number("key", None, above=0, null=True)
    assert refused(whole_number, 0, at_least=1, null=True) == "key must be a whole number ≥ 1 or null, got 0."
    assert refused(number, 0, above=0, null=True) == "key must be a number > 0 or null, got 0."
    assert refused(number, None, above=0) == "key must be a number > 0, got None."


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "rule"),
    [
        ({"above": 0}, [1e-9, 1, 1e30], [0, -1], "a number > 0"),
        ({"at_least": 0}, [0, 0.0, 3], [-1e-9], "a number ≥ 0"),
        ({"above": 0, "below": 1}, [0.5], [0, 1], "> 0 and < 1"),
        ({"at_least": 0, "below": 1}, [0, 0.99], [1, -0.1], "≥ 0 and < 1"),
        ({"above": 0, "at_most": 1}, [1, 0.1], [0, 1.01], "> 0 and ≤ 1"),
        ({"at_least": 0, "at_most": 180}, [0, 180], [-1, 181], "between 0 and 180"),
        ({"at_least": 0, "below": 90, "what": "degrees"}, [0, 89], [90], "degrees ≥ 0 and < 90"),
    ],
)
def test_numbers_in_a_range(bounds: dict[str, Any], inside: list[float], outside: list[float], rule: str) -> None:
    for value in inside:
        number("key", value, **bounds)
    for value in (*outside, math.nan, math.inf, -math.inf):
        assert refused(number, value, **bounds) == f"key must be {rule}, got {value}."
    for odd in (True, "0.5", [0.5]):
        assert refused(number, odd, **bounds) == f"key must be {rule}, got {odd!r}."


def test_the_remedy_may_name_the_key() -> None:
    assert (
        refused(whole_number, -1, at_least=0, remedy="Quote it: {}=1.")
        == "key must be a whole number ≥ 0, got -1. Quote it: key=1."
    )
