"""Odd texts, and whether an output hides any of them."""

import os

from hypothesis import strategies as st

ESCAPE = "\x1b]0;OWNED\x07"


LATIN = os.fsdecode(b"caf\xe9")  # a name that is no UTF-8


TEXT = st.text(st.one_of(st.characters(), st.sampled_from("\\x1bu0 \x1b\n\u202e\udce9")), max_size=8)


def hides(text: str) -> bool:
    """Whether it holds anything but letters that are seen, and lines."""
    return not text.replace("\n", "").replace("\r", "").isprintable()
