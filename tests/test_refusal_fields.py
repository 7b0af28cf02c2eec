"""A refusal has fields, and becomes text once: who knows more completes its keys, and nobody reads its words."""

import pickle

import pytest

from kd_cli.errors import ArtifactError, ConfigError, DataError, KdError, Phrase, TrainingError, must, under


def raised(error: KdError, *places: str) -> KdError:
    """The error as it comes out of these places, the innermost first."""
    try:
        if not places:
            raise error
        with under(places[-1]):
            raise raised(error, *places[:-1])
    except KdError as caught:
        return caught


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (True, "True"),
        ("x", "'x'"),
        (["a"], "['a']"),
        (None, "None"),
        (Phrase("an error"), "an error"),
    ],
)
def test_the_house_form(value: object, shown: str) -> None:
    assert str(must("temperature", "a number > 0", value)) == f"temperature must be a number > 0, got {shown}."
    assert str(must("a.b", "so", value, "Do that.")) == f"a.b must be so, got {shown}. Do that."


def test_the_fields_stand_beside_the_text() -> None:
    error = DataError.must(".dataset.root", "a folder", "nowhere", "Give another {}.", ".dataset.root")
    assert type(error) is DataError
    assert (error.key, error.rule, error.value, error.remedy) == (
        ".dataset.root", "a folder", "nowhere", "Give another {}."
    )  # fmt: skip
    assert str(error) == "dataset.root must be a folder, got 'nowhere'. Give another dataset.root."
    assert error.problem == "dataset.root must be a folder, got 'nowhere'."


@pytest.mark.parametrize(
    ("key", "places", "shown"),
    [
        (".train.epochs", ["student"], "student.train.epochs"),
        (".train.epochs", ["teacher.members.0"], "teacher.members.0.train.epochs"),
        (".train.epochs", ["teacher.members.0", "teacher"], "teacher.members.0.train.epochs"),  # it is whole by then
        (".epochs", [".train", "student"], "student.train.epochs"),
        (".", ["teacher.generalist"], "teacher.generalist"),
        (".train.epochs", [], "train.epochs"),
        ("temperature", ["student"], "temperature"),  # no part of a student
        ("train.epochs", ["student"], "train.epochs"),
    ],
)
def test_a_relative_key_is_completed_once(key: str, places: list[str], shown: str) -> None:
    error = raised(must(key, "≥ 1", 0), *places)
    assert str(error) == f"{shown} must be ≥ 1, got 0."


def test_all_keys_of_a_message_are_completed() -> None:
    error = raised(TrainingError("The loss turned NaN.", *TrainingError.CALMER), "teacher.member")
    assert str(error) == (
        "The loss turned NaN. Try a lower teacher.member.train.optimizer.lr, teacher.member.train.clip=1 or "
        "teacher.member.train.precision=32."
    )
    said = raised(ArtifactError("{}=x does not fit {}.", "Keys missing: a.", ".path", ".model"), "teacher")
    assert str(said) == "teacher.path=x does not fit teacher.model. Keys missing: a."
    assert said.problem == "teacher.path=x does not fit teacher.model."


def test_the_error_itself_is_completed_and_keeps_its_cause() -> None:
    cause = ValueError("why")
    error = must(".model", "so", 1)
    error.__cause__ = cause
    assert raised(error, "student") is error
    assert error.__cause__ is cause


def test_what_was_typed_may_hold_braces_and_begin_as_a_key() -> None:
    error = raised(must(".train.x", "so", "{} .train.y {0}", "Write {}={a: 1}.", ".train.x"), "student")
    assert str(error) == "student.train.x must be so, got '{} .train.y {0}'. Write student.train.x={a: 1}."
    assert str(raised(DataError(".train.x is no file."), "student")) == ".train.x is no file."


def test_a_refusal_comes_through_a_pickle() -> None:
    error = pickle.loads(pickle.dumps(raised(must(".a", "so", 1, "Do {}.", ".b"), "x")))
    assert (type(error), str(error)) == (ConfigError, "x.a must be so, got 1. Do x.b.")
