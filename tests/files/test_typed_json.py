"""Dataclasses as JSON: what is written is read back, what does not fit is refused by its name."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from kd_cli.files.typed_json import from_json, to_json


@dataclass(frozen=True)
class Leaf:
    n: int
    share: float | None


@dataclass(frozen=True)
class Tree:
    name: Literal["oak", "elm"]
    leaf: Leaf | None
    seed: str | int | float | bool | None
    leaves: list[Leaf] = field(default_factory=list)
    more: dict[str, Leaf] = field(default_factory=dict)
    rest: Any = None
    old: bool | None = None


WHOLE: dict[str, Any] = {
    "name": "oak",
    "leaf": {"n": 0, "share": None},
    "seed": "x",
    "leaves": [{"n": 1, "share": 0.5}],
    "more": {"a": {"n": 2, "share": 1.0}},
    "rest": {"deep": [1, {"er": None}]},
    "old": False,
}


def test_what_is_read_has_the_types_and_is_written_as_it_was() -> None:
    tree = from_json(Tree, WHOLE)
    leaves = (Leaf(0, None), "x", [Leaf(1, 0.5)], {"a": Leaf(2, 1.0)})
    assert (tree.leaf, tree.seed, tree.leaves, tree.more) == leaves
    assert to_json(tree) == WHOLE


def test_what_has_a_default_and_holds_nothing_is_left_out_and_what_has_none_is_null() -> None:
    tree = Tree("elm", None, None)
    assert to_json(tree) == {"name": "elm", "leaf": None, "seed": None}
    assert from_json(Tree, to_json(tree)) == tree


def test_a_key_that_nobody_knows_is_ignored() -> None:
    assert from_json(Tree, WHOLE | {"age": 3, "leaf": {"n": 0, "share": None, "green": True}}) == from_json(Tree, WHOLE)


def test_a_whole_number_is_a_number() -> None:
    share = from_json(Leaf, {"n": 3, "share": 1}).share
    assert (share, type(share)) == (1.0, float)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "fir"}, "name must be one of oak, elm, got 'fir'"),
        ({"name": []}, "name must be one of oak, elm, got []"),
        ({"leaf": 3}, "leaf must be a mapping, got 3"),
        ({"leaf": {"n": 1}}, "it has no leaf.share"),
        ({"leaf": {"n": True, "share": 1.0}}, "leaf.n must be a whole number from 0 to 9007199254740992, got True"),
        ({"leaf": {"n": -1, "share": 1.0}}, "leaf.n must be a whole number from 0 to 9007199254740992, got -1"),
        ({"leaf": {"n": 2**53 + 1, "share": 1.0}}, "leaf.n must be a whole number from 0 to 9007199254740992, got 9"),
        ({"leaf": {"n": 1.0, "share": 1.0}}, "leaf.n must be a whole number from 0 to 9007199254740992, got 1.0"),
        ({"leaf": {"n": 1, "share": 10**400}}, "leaf.share must be a number, got 1"),
        ({"leaf": {"n": 1, "share": True}}, "leaf.share must be a number, got True"),
        ({"leaf": {"n": 1, "share": "1"}}, "leaf.share must be a number, got '1'"),
        ({"seed": []}, "seed must be a plain value, got []"),
        ({"leaves": {}}, "leaves must be a list, got {}"),
        ({"leaves": [WHOLE["leaf"], 3]}, "leaves.1 must be a mapping, got 3"),
        ({"more": []}, "more must be a mapping, got []"),
        ({"more": {"b": None}}, "more.b must be a mapping, got None"),
        ({"old": 0}, "old must be true or false, got 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"^\S") as refused:
        from_json(Tree, WHOLE | wrong)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("missing", ["name", "leaf", "seed"])
def test_a_field_without_a_default_must_be_there(missing: str) -> None:
    with pytest.raises(ValueError, match=f"^it has no {missing}$"):
        from_json(Tree, {key: value for key, value in WHOLE.items() if key != missing})


@pytest.mark.parametrize("content", [None, 3, [], "x"])
def test_no_mapping_is_none(content: Any) -> None:
    with pytest.raises(ValueError, match=r"^it must be a mapping, got "):
        from_json(Tree, content)
