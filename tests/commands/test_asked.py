"""What a result keeps of the words that were typed."""

import pytest

from kd_cli.commands.asked import short


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("temperature=4", "temperature=4"),
        ("model@student.model=cnn", "student.model=cnn"),
        ("+teacher@teacher.members.0=cnn", "+teacher.members.0=cnn"),
        ("++model@student.model=cnn", "++student.model=cnn"),
        ("~augment@transfer.augment", "~transfer.augment"),
        ("dataset.root=me@home", "dataset.root=me@home"),
    ],
)
def test_an_override_is_short_and_keeps_its_sign(word: str, kept: str) -> None:
    assert short(word) == kept
