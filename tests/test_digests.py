import pytest

from kd_cli.files.digests import digest_of, id_of


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": None}, {}, False),
        ({"a": "é"}, {"a": "e"}, False),
    ],
)
def test_a_digest_follows_content_and_not_the_order_of_keys(left, right, equal):
    assert (digest_of(left) == digest_of(right)) is equal


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_numbers_that_are_none_have_an_identity_too(number):
    assert len(id_of({"lr": number})) == 16
