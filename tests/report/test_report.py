import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from results_by_hand import job, model, result, three
from rich.console import Console

from kd_cli.report import run as report
from kd_cli.report.models_table import column, table
from kd_cli.report.sweep import summarize

SAVING = "It is 50 × smaller than the teacher, 3 × faster at batch 1 and 2.5 × faster at batch 256."


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            (67, 74, 146, 72 / 79),
            "The student recovered 91% of the gap: it makes 74 errors, the same student without a teacher 146, "
            "the teacher 67. ",
        ),
        (
            (60, 90, 80, -0.5),
            "Distilling did not help: the student makes 90 errors, the same student without a teacher 80, "
            "the teacher 60. ",
        ),
        (
            (60, 80, 80, 0.0),
            "Distilling did not help: the student makes 80 errors, the same student without a teacher 80, "
            "the teacher 60. ",
        ),
        (
            (90, 70, 80, None),
            "There was no gap to recover: the teacher is not better than the baseline. The student makes 70 errors, "
            "the same student without a teacher 80, the teacher 90; it is better than the baseline. ",
        ),
        (
            (80, 80, 80, None),
            "There was no gap to recover: the teacher is not better than the baseline. The student makes 80 errors, "
            "the same student without a teacher 80, the teacher 80; it is no better than the baseline. ",
        ),
        (
            (60, 70, None, None),
            "Without a baseline (baseline=false) nobody can say whether distilling helped. ",
        ),
    ],
)
def test_the_sentence_says_whether_distilling_helped(figures: tuple[Any, ...], said: str) -> None:
    assert report.sentence(result(*figures)) == said + SAVING


def test_the_sentence_admits_a_larger_and_slower_student() -> None:
    made = result(60, 70, 80, 0.5, student=model(70, params=100_000, one=6.0, many=25.0))
    expected = "It is 2 × larger than the teacher, 2 × slower at batch 1 and 1 × faster at batch 256."
    assert report.sentence(made).endswith(expected)


def test_a_student_of_the_teachers_size_is_not_called_smaller() -> None:
    made = result(60, 70, 80, 0.5, student=model(70, params=50_000))
    assert "It is as large as the teacher, 3 × faster" in report.sentence(made)


def test_a_teacher_that_cannot_be_measured_is_not_compared_with() -> None:
    unknown = dict.fromkeys(("params", "flops", "bytes", "latency_ms"))
    made = result(60, 70, 80, 0.5, teacher=model(60, **unknown))
    assert report.sentence(made).endswith("the teacher 60. ")
    cells = column(made.figures["teacher"])
    for heading in ("parameters", "FLOPs a sample", "size", "latency, batch 1", "latency, batch 256"):
        assert cells[heading] == "–"


def test_a_column() -> None:
    cells = column(result(0, 7, None, None).figures["student"])
    assert cells == {
        "test errors": "7 of 500",
        "accuracy": "98.60%",
        "NLL": "0.1250",
        "ECE": "0.0100",
        "agreement with the teacher": "98.76%",
        "parameters": "1 k",
        "FLOPs a sample": "2.5 M",
        "size": "4 kB",
        "latency, batch 1": "1 ms",
        "latency, batch 256": "10 ms",
    }


def test_the_table_shows_the_three_models_side_by_side() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(result(67, 74, 146, 0.9)))
    text = console.export_text()
    rows = [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in text.splitlines() if "│" in line]
    assert rows[0] == ["test errors", "67 of 500", "74 of 500", "146 of 500"]
    assert ["agreement with the teacher", "–", "98.76%", "–"] in rows
    assert "cpu, 2 threads, precision 32" in text


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "s1"
    errors = {("1", "0"): (12, 20), ("1", "1"): (15, 21), ("4", "0"): (9, 20), ("4", "1"): (11, 21)}
    for (temperature, seed), (student, baseline) in errors.items():
        name = f"temperature-{temperature}_seed-{seed}"
        job(folder, name, [f"temperature={temperature}", f"seed={seed}"], **three(name, 8, student, baseline))
    return folder


def test_the_summary_of_a_sweep(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert summarize(sweep) is True
    summary = json.loads((sweep / "summary.json").read_text())
    assert summary["settings"] == ["temperature"]
    assert [row["job"] for row in summary["jobs"]] == sorted(path.name for path in sweep.iterdir() if path.is_dir())
    one, four = summary["groups"]
    assert (one["temperature"], one["n"]) == ("1.0", 2)
    assert (four["student_errors_mean"], four["teacher_errors_mean"], four["baseline_errors_mean"]) == (10, 8, 20.5)
    assert four["student_errors_std"] == pytest.approx(2**0.5)
    assert four["gap_recovered"] == pytest.approx((20.5 - 10) / (20.5 - 8)), "the ratio of the mean errors"
    low, high = four["gap_interval"]
    assert low <= four["gap_recovered"] <= high
    assert four["fewer_errors"] == 10.5
    assert four["fewer_errors_interval"] == pytest.approx([10.5 - 12.7062 * 0.5, 10.5 + 12.7062 * 0.5], abs=1e-3)

    rows = list(csv.DictReader((sweep / "summary.csv").read_text().splitlines()))
    assert len(rows) == 4
    assert {"job", "status", "temperature", "seed", "student_errors", "gap_recovered"} <= set(rows[0])
    told = capsys.readouterr()
    assert told.out == ""
    assert "10.0 ± 1.4" in told.err
    assert "summary.csv" in told.err


def test_a_failed_job_is_named_and_kept_out_of_the_means(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(sweep, "temperature-4_seed-2", ["temperature=4", "seed=2"], status="failed", error="The loss turned NaN.")
    assert summarize(sweep) is False
    summary = json.loads((sweep / "summary.json").read_text())
    assert summary["settings"] == ["temperature"]
    assert [group["n"] for group in summary["groups"]] == [2, 2]
    failed = next(row for row in summary["jobs"] if row["status"] == "failed")
    assert failed["error"] == "The loss turned NaN."
    assert "temperature-4_seed-2 failed: The loss turned NaN." in capsys.readouterr().err


def test_seeds_in_their_numerical_order(tmp_path: Path) -> None:
    for seed in (0, 2, 10):
        job(tmp_path / "s", f"seed-{seed}", [f"seed={seed}"], **three(str(seed), 5, 7 + seed, 20))
    summarize(tmp_path / "s")
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert [row["seed"] for row in summary["jobs"]] == [0, 2, 10]


def test_without_a_baseline_there_is_no_gap(tmp_path: Path) -> None:
    for seed in (0, 1):
        figures = three(str(seed), 5, 7, 20)
        del figures["baseline"]
        job(tmp_path / "s", f"seed-{seed}", [f"seed={seed}"], **{**figures, "gap_recovered": None})
    assert summarize(tmp_path / "s") is True
    (group,) = json.loads((tmp_path / "s" / "summary.json").read_text())["groups"]
    assert group["student_errors_mean"] == 7
    assert "gap_recovered" not in group or group["gap_recovered"] is None
