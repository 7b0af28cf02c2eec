"""The settings of a sweep, through the command."""

import csv
import subprocess
from pathlib import Path

import pytest
from results_by_hand import job, three
from running import KD, environment, inside, kd


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
