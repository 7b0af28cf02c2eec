import tempfile
from pathlib import Path

import fuzzing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import TINY, inside

WORDS = (*TINY, "baseline=false")
KINDS = st.sampled_from(["plain", "gzipped", "folder"])
short = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    assert inside("distill", *WORDS, cwd=folder).status == 0
    return folder


@settings(short, max_examples=25)
@given(fuzzing.command_lines)
def test_any_command_line_is_a_config_or_one_message(words):
    with tempfile.TemporaryDirectory() as folder:
        fuzzing.config_of(words, Path(folder))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+="], "An argument must be key=value, got '+='."),
        (["=100"], "An argument must be key=value, got '=100'."),
        (["~=200"], "An argument must be key=value, got '~=200'."),
        (["~hydra/launcher=-400"], "A config group that ~ removes must be named by a word, got '~hydra/launcher=-400'. "
                                   "Leave its value out."),
    ],
)  # fmt: skip
def test_what_hydra_answered_with_a_traceback(tmp_path, words, message):
    done = inside("distill", "--cfg", "job", *words, cwd=tmp_path)
    assert done.status != 0
    assert done.err.strip() == message


@pytest.mark.parametrize(
    "word", ["temperature=${nope}", "teacher.train.epochs=${oc.env:KD_IS_NOT_SET}", "seed=${device}"]
)
def test_an_interpolation_that_leads_nowhere_is_refused_alone_and_in_a_sweep(tmp_path, word):
    key = word.partition("=")[0]
    alone = inside("distill", word, cwd=tmp_path)
    assert alone.status == 1
    assert f"{key} must be one that can be resolved, got " in alone.err
    swept = inside("sweep", word, cwd=tmp_path)
    assert swept.status == 1
    assert "Traceback" not in swept.err
    assert f"failed: {alone.err.splitlines()[0]}" in swept.err


@settings(short, max_examples=150)
@given(KINDS, st.integers(0, 9), fuzzing.damages)
def test_a_damaged_data_file_is_read_or_refused(kind, which, damage):
    with tempfile.TemporaryDirectory() as folder:
        fuzzing.data_of(kind, which, *damage, Path(folder))


@settings(short, max_examples=3)
@given(st.integers(0, 99), fuzzing.damages)
def test_a_damaged_artifact_is_refused_and_stops_no_later_run(made, which, damage):
    with tempfile.TemporaryDirectory() as folder:
        fuzzing.artifact_of(made, which, *damage, Path(folder), WORDS)
