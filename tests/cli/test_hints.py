"""What a hint proposes can be pasted."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from running import files_below, inside
from shown import TEXT

from kd_cli.screen import override

EVIL = "' ; touch OWNED ; '"


@given(TEXT.filter(lambda text: "\0" not in text and "${" not in text and text))
def test_a_hint_is_one_word_of_the_shell_and_one_value_for_hydra(value: str) -> None:
    (word,) = shlex.split(override("key", value))
    parsed = OverridesParser.create().parse_override(word)
    assert not parsed.is_sweep_override()
    assert "'" not in word.partition("=")[2] or parsed.value() == value  # unquoted, a number is a number


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (('transfer.omit_classes="' + EVIL + '"',), "transfer.omit_classes=["),
        (("seed=1,2", 'output_dir="' + EVIL + '"'), "kd sweep seed=1,2 "),
    ],
)
def test_a_hint_runs_nothing(typed: tuple[str, ...], hint: str, tmp_path: Path) -> None:
    done = inside("distill", *typed, cwd=tmp_path)
    assert done.status == 1
    begun = done.err.index(hint)
    said = done.err[begun - (done.err[begun - 1] == "'") :]
    subprocess.run(["bash", "-c", "true " + said.rstrip().rstrip(".")], cwd=tmp_path, capture_output=True)
    assert files_below(tmp_path) == []


def test_kd_clean_proposes_the_folder_that_it_looked_at(tmp_path: Path) -> None:
    unfinished = tmp_path / "a folder" / "teachers" / ".0123456789abcdef.partial"
    unfinished.mkdir(parents=True)
    done = inside("clean", "output_dir=a folder", cwd=tmp_path)
    line = next(line for line in done.err.splitlines() if "removes them" in line)
    assert line.startswith("kd clean 'output_dir=a folder' yes=true removes them")
