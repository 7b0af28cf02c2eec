"""What is foreign stays text: on a terminal of any width and encoding, in logs, in spreadsheets, in a pasted hint."""

import logging
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from running import environment, inside
from shown import ESCAPE, LATIN, TEXT, hides

from kd_cli.screen import Lines, as_utf8, prose, quoting, shown


@given(TEXT, TEXT)
@example("\\x1b", "\x1b")
def test_two_values_that_differ_are_shown_differently(one: str, other: str) -> None:
    assert shown(one).isprintable()
    assert shown(one) == shown(one).strip(" ")
    assert (shown(one) == shown(other)) == (one == other)


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("plain [bold]text[/bold] :smile:", "plain [bold]text[/bold] :smile:"),
        ("naïve 猫", "naïve 猫"),
        (f"a{ESCAPE}", r"a\x1b]0;OWNED\x07"),
        ("one\ntwo\rthree\tfour", r"one\x0atwo\x0dthree\x09four"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202etxt.exe", r"abc\u202etxt.exe"),
        ("\U000e0041", r"\U000e0041"),
        (" cat ", r"\x20cat\x20"),
        (r"C:\new\x1b", r"C:\new\\x1b"),
        (LATIN, r"caf\udce9"),
        (0.5, "0.5"),
    ],
)
def test_what_is_shown(value: Any, seen: str) -> None:
    assert shown(value) == seen


# What others raise, warn of, log and print.


def test_error_texts_of_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"a{ESCAPE}\nkd: all is well"
    lines = ("from kd_cli.errors import DataError", "def refuse(**_):", f"    raise ValueError({ESCAPE!r})")
    lines += ("def blame(**_):", f"    raise DataError({text!r})", "")
    (tmp_path / "mine.py").write_text("\n".join(lines))
    for name, told in (("refuse", r"built: \x1b]0;OWNED\x07"), ("blame", "\n  kd: all is well\n")):
        (tmp_path / "dataset").mkdir(exist_ok=True)
        (tmp_path / "dataset" / f"{name}.yaml").write_text(f"_target_: mine.{name}\n")
        done = inside("distill", "--config-dir", str(tmp_path), f"dataset={name}", cwd=tmp_path)
        assert done.status == 1
        assert told in done.err
        assert not hides(done.err)
        with monkeypatch.context() as patch:
            patch.setenv("KD_TRACEBACK", "1")
            done = inside("distill", "--config-dir", str(tmp_path), f"dataset={name}", cwd=tmp_path)
        assert "Traceback" in done.err
        assert r"\x1b]0;OWNED\x07" in done.err
        assert not hides(done.err)


@pytest.mark.parametrize(
    "words",
    [
        f"evaluate path=nothing{ESCAPE}",
        f"predict path=nothing{ESCAPE} images=x",
        f"list output_dir=nothing{ESCAPE}",
        f"summarize sweep=nothing{ESCAPE}",
        f"distill dataset=nothing{ESCAPE}",
        f"distill nothing{ESCAPE}=1",
        f"distill output_dir=nothing{ESCAPE} temperature=0",
        f"nothing{ESCAPE}",
        f"distill teacher=checkpoint model@teacher.model=mlp_64 teacher.path=nothing{ESCAPE}",
        f"distill transfer.omit_classes=[nothing{ESCAPE}]",
        f"distill student.model._target_=nothing{ESCAPE}.model",
    ],
    ids=lambda words: words.replace(ESCAPE, ""),
)
def test_no_word_reaches_the_terminal_raw(words: str, tmp_path: Path) -> None:
    done = inside(*words.split(" "), cwd=tmp_path)
    assert not hides(done.out + done.err)
    assert "Traceback" not in done.err


def test_the_files_of_a_strangers_config_folder_are_listed_as_text(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / f"x{ESCAPE}.yaml").write_text("_target_: x\n")
    for words in (("--help",), ("--info", "defaults"), ("--cfg", "job", f"teacher.seed=x{ESCAPE}"), ("dataset=zzz",)):
        done = inside("distill", "--config-dir", str(tmp_path), *words, cwd=tmp_path)
        assert not hides(done.out + done.err)


def test_log_lines_warnings_and_last_words() -> None:
    record = logging.LogRecord("kd", logging.INFO, "", 0, "%s has %d of %.1f", (f"a\n{ESCAPE}", 3, 4.0), None)
    assert Lines().format(record) == r"a\x0a\x1b]0;OWNED\x07 has 3 of 4.0"
    record = logging.LogRecord("kd", logging.INFO, "", 0, f"two\nlines{ESCAPE}", None, None)
    assert Lines().format(record) == "two\nlines" + r"\x1b]0;OWNED\x07"
    ready = "import warnings; import kd_cli.screen as s; s.prepare_streams()"
    code = f"{ready}; warnings.warn({ESCAPE!r}); raise OSError({ESCAPE!r})"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert not hides(done.stderr)
    assert done.stderr.count(r"\x1b]0;OWNED\x07") >= 2


def test_a_bar_shows_names_as_text() -> None:
    code = (
        "from kd_cli.progress import task\n"
        f"with task('[/x]{{0}}'.format({ESCAPE!r}), 'epoch', 1) as shown: shown.finish(1, {{'[/y]' + {ESCAPE!r}: 1.0}})"
    )
    parent, child = pty.openpty()
    with open(child, "wb") as terminal:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(TERM="xterm"), stderr=terminal, capture_output=False
        )
    said = os.read(parent, 65536).decode()
    os.close(parent)
    assert done.returncode == 0, said
    assert "OWNED" in said
    assert ESCAPE not in said


def test_a_path_is_raw_for_a_program_and_text_on_a_terminal() -> None:
    code = f"from pathlib import Path; from kd_cli.screen import answer_path; answer_path(Path({('x' + LATIN)!r}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).stdout == b"xcaf\xe9\n"
    parent, child = pty.openpty()
    with open(child, "wb") as terminal:
        subprocess.run([sys.executable, "-c", code], stdout=terminal)
    assert os.read(parent, 1000) == b"xcaf\\udce9\r\n"
    os.close(parent)


def test_names_are_read_as_utf8() -> None:
    assert as_utf8("für") == "für"
    assert as_utf8(LATIN) == LATIN


def test_prose_keeps_its_lines() -> None:
    assert prose(f"a\n\tb{ESCAPE}") == "a\n\tb" + r"\x1b]0;OWNED\x07"


def test_what_libraries_print_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with quoting():
        print(ESCAPE)
    assert capsys.readouterr().out == r"\x1b]0;OWNED\x07" + "\n"
