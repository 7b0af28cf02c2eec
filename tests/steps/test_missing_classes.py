"""Transfer sets without some classes, and students whose output bias is corrected for it: end to end on the digits."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from results_by_hand import model, result
from running import TINY, Outcome, inside
from safetensors.torch import load_file

from kd_cli import load
from kd_cli.datasets.digits import digits
from kd_cli.measure.prediction import predict
from kd_cli.report import run as report
from kd_cli.report import sweep_table
from kd_cli.runs.result import Result

MISSING = (*TINY, "transfer.omit_classes=[3]")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    done = inside("distill", *MISSING, "bias_correction=prior", cwd=tmp_path_factory.mktemp("first"))
    assert done.status == 0, done.err
    return done


@pytest.fixture
def again(first: Outcome, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a command beside a copy of the first run's outputs."""
    shutil.copytree(first.run.parents[1], tmp_path / "outputs")
    return lambda *words: inside(*words, cwd=tmp_path)


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line.strip("│") for line in text.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.split("│")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_the_table_shows_the_errors_on_the_classes_that_were_named(first: Outcome) -> None:
    result, rows = first.result, rows_of(first.err)
    assert result["named_classes"] == ["3"]
    counts = [result[role]["per_class"]["3"] for role in ("teacher", "student", "corrected", "baseline")]
    assert rows["errors on 3"] == [f"{count['errors']} of 61" for count in counts]
    assert counts[3]["errors"] == 61, "the baseline has never seen a 3"
    assert "errors on 7" not in rows


def test_each_class_that_was_named_has_a_line_and_no_other(again: Callable[..., Outcome]) -> None:
    done = again("distill", *TINY, "transfer.only_classes=[7,8]", "baseline=false")
    assert {row for row in rows_of(done.err) if row.startswith("errors on")} == {"errors on 7", "errors on 8"}
    assert "errors on" not in again("distill", *TINY, "baseline=false").err


def test_the_corrected_student_is_the_student_with_another_output_bias(first: Outcome) -> None:
    result, outputs = first.result, first.run.parents[1]
    folders = [outputs / result[role]["artifact"] for role in ("student", "corrected")]
    student, corrected = (load_file(folder / "model.safetensors") for folder in folders)
    (name,) = [name for name in student if not torch.equal(student[name], corrected[name])]
    assert (name.rpartition(".")[2], student[name].shape) == ("bias", (10,))
    moved = corrected[name].double() - student[name].double()
    assert result["corrected"]["shift"] == {str(k): pytest.approx(float(moved[k]), abs=1e-5) for k in range(10)}
    assert result["corrected"]["shift"]["3"] == max(result["corrected"]["shift"].values()) > 0
    assert result["corrected"]["per_class"]["3"]["errors"] < result["student"]["per_class"]["3"]["errors"]


def test_prior_brings_the_mean_prediction_on_all_training_images_to_the_class_frequencies(first: Outcome) -> None:
    model = load(first.run.parents[1] / first.result["corrected"]["artifact"]).model
    train = digits().train
    mean = predict(model, train, CPU).double().softmax(1).mean(0)
    torch.testing.assert_close(mean, train.labels.bincount() / len(train), atol=1e-5, rtol=0, check_dtype=False)


def test_prior_sees_no_label_of_the_test_split(first: Outcome) -> None:
    corrected = first.result["corrected"]
    assert (corrected["rule"], corrected["selected_on"]) == ("prior", "train")
    assert "chosen on the test set" not in first.err


def test_the_gap_is_that_of_the_student_as_it_was_trained(first: Outcome, again: Callable[..., Outcome]) -> None:
    plain = again("distill", *MISSING).result
    assert "corrected" not in plain
    assert plain["gap_recovered"] == first.result["gap_recovered"]
    for role in ("teacher", "student", "baseline"):
        assert plain[role]["artifact"] == first.result[role]["artifact"]
        assert plain[role]["errors"] == first.result[role]["errors"]


def test_it_is_found_again_evaluated_listed_and_kept(first: Outcome, again: Callable[..., Outcome]) -> None:
    once_more = again("distill", *MISSING, "bias_correction=prior").result
    assert once_more["stages"]["bias_correction"]["cached"] is True
    assert once_more["corrected"]["shift"] == first.result["corrected"]["shift"]
    name = first.result["corrected"]["artifact"]
    answer = json.loads(again("evaluate", f"path=outputs/{name}", "format=json").out)
    assert answer["errors"] == first.result["corrected"]["errors"]
    listed = {row["artifact"]: row for row in json.loads(again("list", "format=json").out)}
    assert listed[name]["title"] == "mlp, 10 classes, Hinton, bias by prior"
    assert len(listed[name]["users"]) == 2
    assert again("clean", "yes=true").err == "Nothing to remove in outputs.\n"


def test_another_students_correction_is_another_artifact(first: Outcome, again: Callable[..., Outcome]) -> None:
    other = again("distill", *MISSING, "bias_correction=prior", "seed=1", "baseline=false").result
    assert other["stages"]["bias_correction"]["cached"] is False
    assert other["corrected"]["artifact"] != first.result["corrected"]["artifact"]


def test_oracle_shifts_the_named_classes_alike_and_says_what_it_looked_at(again: Callable[..., Outcome]) -> None:
    done = again("distill", *TINY, "transfer.only_classes=[0,1,2,3,4]", "bias_correction=oracle", "baseline=false")
    corrected, student = done.result["corrected"], done.result["student"]
    shift = corrected["shift"]
    assert len({round(shift[str(k)], 4) for k in range(5)}) == 1
    assert shift["0"] < 0
    assert {shift[str(k)] for k in range(5, 10)} == {0}
    assert corrected["selected_on"] == "test"
    assert corrected["errors"] < student["errors"]
    assert "corrected (chosen on the test set)" in done.err
    said = f"{corrected['errors']} errors instead of {student['errors']}; that bias was chosen on the test set."
    assert said in " ".join(done.err.split())
    (logged,) = [line for line in (done.run / "kd.log").read_text().splitlines() if "output bias shifted by" in line]
    assert logged.endswith("Chosen on the test set.")


def test_an_oracle_that_shifts_other_classes_is_another_artifact(again: Callable[..., Outcome]) -> None:
    words = (*TINY, "bias_correction=oracle", "baseline=false")
    one = again("distill", *words, "transfer.omit_classes=[3]").result
    other = again("distill", *words, "transfer.only_classes=[0,1,2,4,5,6,7,8,9]").result  # the same transfer set
    assert other["student"]["artifact"] == one["student"]["artifact"]
    assert other["corrected"]["artifact"] != one["corrected"]["artifact"]
    assert one["corrected"]["shift"]["0"] == 0 != other["corrected"]["shift"]["0"]


def test_oracle_leaves_no_more_errors_than_any_common_shift(again: Callable[..., Outcome]) -> None:
    done = again("distill", *MISSING, "bias_correction=oracle", "baseline=false")
    model = load(done.run.parents[1] / done.result["student"]["artifact"]).model
    test = digits().test
    logits = predict(model, test, CPU).double()
    raised = [logits + shift * torch.eye(10)[3] for shift in torch.arange(-20, 20, 0.02)]
    assert done.result["corrected"]["errors"] <= min(int((each.argmax(1) != test.labels).sum()) for each in raised)


def test_a_sweep_sums_the_corrected_students_up(again: Callable[..., Outcome]) -> None:
    done = again("sweep", *MISSING, "bias_correction=null,prior,oracle", "seed=0,1", "baseline=false")
    assert done.status == 0, done.err
    summary = json.loads((done.run / "summary.json").read_text())
    groups = {group["bias_correction"]: group for group in summary["groups"]}
    assert set(groups) == {"null", "prior", "oracle"}
    assert "corrected_errors_mean" not in groups["null"]
    of_prior = [job["corrected_errors"] for job in summary["jobs"] if job.get("bias_correction") == "prior"]
    assert len(of_prior) == 2
    assert groups["prior"]["corrected_errors_mean"] == sum(of_prior) / 2
    assert [groups[rule]["corrected_selected_on"] for rule in ("prior", "oracle")] == ["train", "test"]
    shown = (done.run / "summary.txt").read_text()
    assert shown.count("* output bias chosen on the test set") == 2, "below either table"
    assert sum(line.count("*") for line in shown.splitlines() if line.startswith("│")) == 3, "two jobs and their group"
    rows = list(csv.DictReader((done.run / "summary.csv").read_text().splitlines()))
    assert [row["corrected_selected_on"] for row in rows if row["bias_correction"] == "oracle"] == ["test", "test"]


def test_without_a_correction_there_is_no_column_for_it() -> None:
    jobs = [{"job": "a", "status": "completed", "student_errors": 3, "seed": 0}]
    assert "corrected errors" not in sweep_table._jobs_table("", jobs, []).headings


def test_a_student_without_an_output_bias_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "bare_models.py").write_text(
        "from torch import nn\n\n\ndef bare(num_classes, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes, bias=False))\n"
    )
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "bare.yaml").write_text("_target_: bare_models.bare\n_partial_: true\n")
    words = ("--config-dir", "mine", "model@student.model=bare", "bias_correction=prior")
    done = inside("distill", *MISSING, *words, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "bias_correction must be null for a student without an output bias, got 'prior'. "
        "Choose a student whose last layer has one.\n"
    )
    assert not (tmp_path / "outputs").exists()


def result_with(**corrected: Any) -> Result:
    figures = {"rule": "prior", "selected_on": "train", **corrected}
    return result(67, 206, None, None, corrected=model(109, **figures))


def test_what_is_said_of_a_correction() -> None:
    assert report.correction(result_with()) == (
        "With its output bias corrected (prior) the student makes 109 errors instead of 206."
    )
    assert report.correction(result_with(rule="oracle", selected_on="test")) == (
        "With its output bias corrected (oracle) the student makes 109 errors instead of 206; "
        "that bias was chosen on the test set."
    )
