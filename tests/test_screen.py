"""What is foreign stays text: on a terminal of any width and encoding, in logs, in spreadsheets, in a pasted hint."""

import csv
import io
import json
import logging
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len
from rich.console import Console
from running import KD, environment, files_below, inside, kd
from test_report import job, three

from kd_cli.screen import Lines, as_utf8, override, prose, quoting, shown, write_csv
from kd_cli.table import Sheet

ESCAPE = "\x1b]0;OWNED\x07"
OUT = "größe"
LATIN = os.fsdecode(b"caf\xe9")  # a name that is no UTF-8
CLASSES = ("[cat]", "[red]", f"a{ESCAPE}", "=1+1", "für", LATIN)
TEXT = st.text(st.one_of(st.characters(), st.sampled_from("\\x1bu0 \x1b\n\u202e\udce9")), max_size=8)


def hides(text: str) -> bool:
    """Whether it holds anything but letters that are seen, and lines."""
    return not text.replace("\n", "").replace("\r", "").isprintable()


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


def drawn(sheet: Sheet, width: int, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding)
    Console(file=file, width=width, markup=False, emoji=False, highlight=False).print(sheet)
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [12, 30, 50, 60, 79, 80, 120])
def test_no_width_makes_two_values_look_the_same(width: int) -> None:
    headings = ("student.train.optimizer.lr", "student.train.epochs", "augment@transfer.augment", "teacher errors")
    values = [
        "0.0001",
        "0.0005",
        "0.00012345678901",
        "[cat]",
        "[/cat]",
        r"a\x1b",
        "a\x1b",
        "cat",
        "cat ",
        "猫猫猫",
        "猫猫狗",
    ]
    sheet = Sheet("sweep s1", headings, [(value, "20", "affine", 17) for value in values], note="* a note")
    lines = drawn(sheet, width).splitlines()
    assert "…" not in "".join(lines)
    assert max(map(cell_len, lines)) <= width
    assert (lines[0], lines[-1]) == ("sweep s1", "* a note")
    if table := [line for line in lines if line.startswith("│")]:
        assert [line.split("│")[1].strip() for line in table] == [shown(value) for value in values]
    else:
        records = "\n".join(lines[1:-1]).split("\n\n")
        said = ["".join(record.split()) for record in records]
        expected = [[value, "20", "affine", "17"] for value in map(shown, values)]
        assert said == ["".join(f"{h}{v}" for h, v in zip(headings, e, strict=True)).replace(" ", "") for e in expected]


def test_a_heading_breaks_between_words_before_a_table_becomes_a_list() -> None:
    sheet = Sheet("t", ("student.train.epochs", "teacher errors"), [("20", "17"), ("30", "18")])
    assert "student.train.epochs ┃ teacher errors" in drawn(sheet, 120)
    assert [line.split() for line in drawn(sheet, 25).splitlines()[2:5]] == [
        ["┃", "student.", "┃", "┃"],
        ["┃", "train.", "┃", "teacher", "┃"],
        ["┃", "epochs", "┃", "errors", "┃"],
    ]
    narrow = ["t", "student.train.epoch", "s  20", "teacher errors", "17", "", "student.train.epoch", "s  30"]
    assert [line.rstrip() for line in drawn(sheet, 19).splitlines()][:8] == narrow


def test_a_table_in_ascii() -> None:
    assert drawn(Sheet("t", ("a", "b"), [(1, 2)]), 40, "ascii").isascii()


# Settings of a sweep, through the command.


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweeps" / "s"
    for k, rate in enumerate(("0.0001", "0.0005")):
        for name in ("[cat],[/dog]", "=cmd|'/c calc'!A1"):
            words = [f"student.train.optimizer.lr={rate}", f"transfer.omit_classes={name.replace('=', '≡')}", "seed=1"]
            job(folder, f"j{k}{len(name)}", words, **three(f"{k}{len(name)}", 10, 20 + k, 30))
            path = folder / f"j{k}{len(name)}" / "result.json"
            path.write_text(path.read_text().replace("\\u2261", "="))
    return folder


def test_a_sweep_at_80_columns_tells_its_settings_apart(sweep: Path, tmp_path: Path) -> None:
    done = kd("summarize", f"sweep={sweep}", cwd=tmp_path, COLUMNS="80")
    assert done.status == 0, done.err
    assert "…" not in done.out
    for value in ("0.0001", "0.0005", "[cat],[/dog]", "=cmd|'/c calc'!A1"):
        assert done.out.count(value) == 2
    assert max(map(len, done.out.splitlines())) <= 80
    kept = (sweep / "summary.txt").read_text("utf-8")
    assert (
        sum(line.startswith("│") and "[cat],[/dog]" in line for line in kept.splitlines()) == 2
    )  # whatever the screen


def test_a_sweeps_spreadsheet_computes_nothing(sweep: Path, tmp_path: Path) -> None:
    assert inside("summarize", f"sweep={sweep}", cwd=tmp_path).status == 0
    with (sweep / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["transfer.omit_classes"] for row in rows} == {"[cat],[/dog]", "'=cmd|'/c calc'!A1"}
    assert {row["student.train.optimizer.lr"] for row in rows} == {"0.0001", "0.0005"}
    assert {row["gap_recovered"] for row in rows} == {"0.5", "0.45"}


def test_text_cells_are_escaped_and_numbers_are_not() -> None:
    cells = [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        "＝1",
        "\t=1",
        "-1.5",
        "-inf",
        "+2e5",
        "plain",
        -2,
        -0.5,
        None,
        True,
        "",
    ]
    file = io.StringIO(newline="")
    write_csv(file, ["=key"], [{"=key": cell} for cell in cells])
    heading, *read = [row[0] if row else "" for row in csv.reader(io.StringIO(file.getvalue()))]
    assert heading == "'=key"
    texts = ["'=1+1", "'+1+1", "'-1+1", "'@SUM(A1)", "'＝1", r"\x09=1"]
    assert read == [*texts, "-1.5", "-inf", "+2e5", "plain", "-2", "-0.5", "", "True", ""]


# Names that people and strangers give to folders of images, and everything that prints them.


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of classes with odd names, in an output folder whose name no ASCII holds."""
    folder = tmp_path_factory.mktemp("odd")
    for part in ("train", "test"):
        for number, name in enumerate(CLASSES):
            for k in range(2):
                path = folder / f"images{LATIN}" / part / name / f"={k}{LATIN}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), 20 * number + k).save(path)
    done = inside("train-teacher", *FOLDER, *TEACHER, f"output_dir={OUT}", cwd=folder)
    assert done.status == 0, done.err
    assert not hides(done.out + done.err)
    return folder


FOLDER = (
    "dataset=image_folder", "dataset.size=8", "dataset.channels=1", "dataset.workers=0", f"dataset.root=images{LATIN}",
)  # fmt: skip
TEACHER = ("teacher=mlp_1200", "teacher.model.widths=[4]", "teacher.train.epochs=1")


def teacher_of(odd: Path) -> Path:
    return next((odd / OUT / "teachers").iterdir())


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("command", ["evaluate", "predict", "list"])
def test_what_answers_shows_every_name(command: str, form: str, odd: Path) -> None:
    where = [f"output_dir={OUT}"] if command == "list" else [f"path={teacher_of(odd)}"]
    images = [f"images=images{LATIN}/test"] if command == "predict" else []
    form = "csv" if (command, form) == ("predict", "table") else form
    done = inside(command, *where, *images, f"format={form}", cwd=odd)
    assert done.status == 0, done.err
    assert not hides(done.out + done.err)
    if command == "evaluate" and form != "csv":
        seen = json.loads(done.out)["per_class"] if form == "json" else done.out
        for name in CLASSES if form == "json" else map(shown, CLASSES):
            assert name in seen
    if command == "predict":
        assert len(json.loads(done.out) if form == "json" else list(csv.DictReader(io.StringIO(done.out)))) == 12
    if (command, form) == ("evaluate", "json"):
        assert json.loads(done.out)["path"] == str(teacher_of(odd))


@pytest.mark.parametrize("where", ["output_dir", "cwd"])
def test_an_output_folder_that_is_no_utf8_is_refused_before_any_work(where: str, odd: Path, tmp_path: Path) -> None:
    there = tmp_path / (LATIN if where == "cwd" else "plain")
    there.mkdir()
    out = "outputs" if where == "cwd" else LATIN
    done = inside("train-teacher", *FOLDER[:-1], f"dataset.root={odd}/images{LATIN}", f"output_dir={out}", cwd=there)
    assert done.status == 1
    assert done.err.startswith("output_dir must be a folder whose whole path is UTF-8, got '")
    assert done.err.count("\n") == 1
    assert files_below(there) == []


def test_a_predicted_class_is_no_formula(odd: Path) -> None:
    done = inside("predict", f"path={teacher_of(odd)}", f"images=images{LATIN}/test/=1+1", cwd=odd)
    assert done.status == 0, done.err
    assert all(not cell.startswith("=") for row in csv.reader(io.StringIO(done.out)) for cell in row)


def test_the_log_of_a_run_shows_every_name(odd: Path) -> None:
    logs = list((odd / OUT / "runs").glob("*/kd.log"))
    assert logs
    for log in logs:
        assert not hides(log.read_text("utf-8"))


def test_a_stored_model_is_the_same_under_every_locale(odd: Path) -> None:
    words = ["evaluate", f"path={teacher_of(odd)}", "format=json"]
    there = environment(LC_ALL="C", PYTHONUTF8="0")
    del there["PYTHONIOENCODING"]
    done = subprocess.run([str(KD), *words], cwd=odd, env=there, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["per_class"]) == sorted(CLASSES)
    again = subprocess.run(
        [str(KD), "train-teacher", *FOLDER, *TEACHER, f"output_dir={OUT}"], cwd=odd, env=there, capture_output=True
    )
    assert again.returncode == 0, again.stderr
    assert b"found in" in again.stderr  # the same identity, and so the same names in the same order
    assert os.fsencode(OUT) in again.stdout  # the path as it is, to be used
    assert Path(os.fsdecode(again.stdout.rstrip(b"\n")), "result.json").is_file()
    assert again.stderr.isascii()


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=str)
@pytest.mark.parametrize(
    "words", ["--help", "distill --help", "distill --cfg job", "distill temperature=0", "summarize"]
)
def test_no_encoding_is_too_narrow(words: str, locale: dict[str, str], sweep: Path, tmp_path: Path) -> None:
    there = environment(**locale)
    if "PYTHONIOENCODING" not in locale:
        del there["PYTHONIOENCODING"]
    typed = [*words.split(), *([f"sweep={sweep}"] if words == "summarize" else [])]
    done = subprocess.run([str(KD), *typed], cwd=tmp_path, env=there, capture_output=True)
    assert done.returncode == (1 if "=0" in words else 0), done.stderr
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()


def test_a_folder_that_was_removed(tmp_path: Path) -> None:
    def there(*words: str) -> subprocess.CompletedProcess[str]:
        gone = tmp_path / "gone"
        gone.mkdir()
        line = f"cd {shlex.quote(str(gone))} && rmdir {shlex.quote(str(gone))} && exec {shlex.join([str(KD), *words])}"
        return subprocess.run(["bash", "-c", line], env=environment(), capture_output=True, text=True)

    for command in ("distill", "list"):
        done = there(command, f"output_dir={tmp_path}/outputs")
        assert done.returncode == 1
        assert done.stderr == (
            "The folder that kd is started in must exist, but it was removed. Change to another one: cd <folder>.\n"
        )
    assert there("--help").returncode == there("--version").returncode == 0
    assert files_below(tmp_path) == []


def test_a_system_that_knows_no_sigusr1(tmp_path: Path) -> None:
    lines = (
        "import signal, sys",
        "del signal.SIGUSR1",
        "import kd_cli.train.checkpoint",
        "from kd_cli.cli.main import main",
    )
    line = "; ".join([*lines, "sys.argv = ['kd', '--help']", "main()"])
    done = subprocess.run([sys.executable, "-c", line], env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kd distill" in done.stdout


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
    code = (
        f"import warnings; import kd_cli.screen as s; s.prepare(); warnings.warn({ESCAPE!r}); raise OSError({ESCAPE!r})"
    )
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


# Hints that are pasted.

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
        (('student.model="' + EVIL + '"',), "model@student.model="),
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
