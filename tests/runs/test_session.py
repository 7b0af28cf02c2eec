"""What the jobs of a process share, and what a launcher's worker gets of it."""

import pickle
from pathlib import Path

import pytest

from kd_cli.cli.job import Job
from kd_cli.runs.session import Session, current, opened


def test_only_in_a_sweep_is_a_thing_made_once() -> None:
    session, made = Session(), []
    for _ in range(2):
        session.once(["data", {"a": 1}], lambda: made.append(1))
    session.share(True)
    for _ in range(2):
        session.once(["data", {"a": 1}], lambda: made.append(2))
    session.once(["data", {"a": 2}], lambda: made.append(3))
    session.share(False)
    session.share(True)
    session.once(["data", {"a": 1}], lambda: made.append(4))
    assert made == [1, 1, 2, 3, 4]


def test_what_is_made_is_handed_on_even_where_it_is_nothing() -> None:
    session = Session()
    session.share(True)
    assert session.once("key", lambda: None) is None
    assert session.once("key", lambda: 1) is None


def test_a_workers_copy_knows_the_fixed_words_and_shares_nothing() -> None:
    session = Session(("seed=0",))
    session.share(True)
    session.folder, session.error = Path("sweep"), ValueError()
    copy = pickle.loads(pickle.dumps(Job(session))).session
    assert (copy.fixed, copy.shares, copy.folder, copy.error) == (("seed=0",), False, None, None)


def test_the_session_that_is_open_is_found_and_closed_again() -> None:
    with opened(Session()) as outer:
        with opened(Session()) as inner:
            assert current() is inner
        assert current() is outer
    with pytest.raises(LookupError):
        current()
