"""What is found again, and what is made anew."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from left import STAGES, artifacts, cached, digest
from running import TINY, Outcome, inside
from safetensors.torch import load_file


def test_the_same_command_finds_everything(first: tuple[Path, Outcome], again: Callable[..., dict[str, Any]]) -> None:
    before = first[1].result
    result = again()
    assert cached(result) == set(STAGES)
    assert artifacts(result) == artifacts(before)
    for role in ("teacher", "student", "baseline"):
        same = {key: value for key, value in before[role].items() if key != "latency_ms"}
        assert {key: value for key, value in result[role].items() if key != "latency_ms"} == same


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("temperature=2",), {"teacher", "soft_targets", "baseline"}),
        (("hard_weight=0.5",), {"teacher", "soft_targets", "baseline"}),
        (("soft_weight=0.5",), {"teacher", "soft_targets", "baseline"}),
        (("seed=1",), {"teacher", "soft_targets"}),
        (("seed=1", "teacher.seed=${seed}"), set()),
        (("student.model.widths=[8]",), {"teacher", "soft_targets"}),
        (("student.train.optimizer.lr=0.05",), {"teacher", "soft_targets"}),
        (("precision=bf16-mixed",), {"teacher", "soft_targets"}),
        (("targets.dtype=float32",), {"teacher", "baseline"}),
        (("targets.top_k=3",), {"teacher", "baseline"}),
        (("targets.temperatures=[1,2]",), set(STAGES)),
        (("teacher.train.optimizer.lr=0.05",), {"baseline"}),
        (("teacher.model.dropout=0.2",), {"baseline"}),
        (("transfer.seed=1",), set(STAGES)),
        (("dataset.validation=100",), set()),
        (("dataset.validation=100", "dataset.seed=1"), set()),
        (("transfer.labels=0.5",), {"teacher", "soft_targets"}),
        (("device=cpu",), set(STAGES)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_reused_and_what_is_not(
    words: tuple[str, ...], found: set[str], again: Callable[..., dict[str, Any]]
) -> None:
    result = again(*words)
    assert cached(result) == found
    if "dataset.validation" in words[0]:
        assert "validation_accuracy" not in result["student"], "figures are those of the test split"


def test_each_precision_of_a_teacher_is_another_teacher(again: Callable[..., dict[str, Any]]) -> None:
    half = "teacher.train.precision=16-mixed"  # every processor has it, if slowly
    assert cached(again(half)) == {"baseline"}
    assert again(half)["stages"]["teacher"]["cached"]


def test_the_same_command_gives_the_same_bytes(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    result = inside("distill", *TINY, f"output_dir={tmp_path / 'elsewhere'}", cwd=tmp_path).result
    assert cached(result) == set()
    assert artifacts(result) == artifacts(first[1].result)
    for name in artifacts(result).values():
        for path in (tmp_path / "elsewhere" / name).glob("*.safetensors"):
            assert digest(path) == digest(first[0] / "outputs" / name / path.name), path


def test_the_stages_one_after_the_other_are_those_of_distill(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    teacher = inside("train-teacher", TINY[0], cwd=tmp_path).result
    assert cached(teacher) == set()
    assert set(teacher["stages"]) == {"teacher"}
    assert teacher["teacher"]["errors"] == first[1].result["teacher"]["errors"]
    dumped = inside("dump-targets", TINY[0], cwd=tmp_path).result
    assert cached(dumped) == {"teacher"}
    assert set(dumped["stages"]) == {"teacher", "soft_targets"}
    distilled = inside("distill", *TINY, cwd=tmp_path).result
    assert cached(distilled) == {"teacher", "soft_targets"}
    assert artifacts(distilled) == artifacts(first[1].result)


def test_without_a_baseline(again: Callable[..., dict[str, Any]]) -> None:
    result = again("baseline=false")
    assert cached(result) == {"teacher", "soft_targets", "student"}
    assert "baseline" not in result
    assert result["gap_recovered"] is None
    assert result["gap_reason"] == "no baseline was trained"


def test_few_logits_serve_the_temperatures_that_they_state(
    again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    few = ("targets.top_k=3", "targets.temperatures=[8,4]", "baseline=false")
    result = again(*few)
    assert cached(result) == {"teacher"}
    folder = tmp_path / "outputs" / artifacts(result)["soft_targets"]
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(folder / "logits-00000.safetensors").items()}
    assert shapes == {"logits": (1198, 3), "classes": (1198, 3), "rest": (1198, 2)}
    assert json.loads((folder / "manifest.json").read_text())["temperatures"] == [4.0, 8.0]
    assert cached(again(*few, "temperature=8")) == {"teacher", "soft_targets"}
    assert cached(again(*few)) == {"teacher", "soft_targets", "student"}


def test_all_logits_by_rank_teach_what_dense_targets_do(
    first: tuple[Path, Outcome], again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = again("targets.top_k=10", "baseline=false")
    ours = load_file(tmp_path / "outputs" / artifacts(result)["student"] / "model.safetensors")
    dense = load_file(first[0] / "outputs" / artifacts(first[1].result)["student"] / "model.safetensors")
    for name, value in dense.items():
        torch.testing.assert_close(ours[name], value, atol=1e-4, rtol=1e-3)


def test_few_logits_without_a_students_temperature_want_temperatures(tmp_path: Path) -> None:
    done = inside("dump-targets", "targets.top_k=3", cwd=tmp_path)
    assert (done.status, done.err) == (
        1,
        "targets.temperatures must be a list of numbers > 0, got None. With targets.top_k they are all that the "
        "targets can serve: 'targets.temperatures=[1,4]'.\n",
    )


def test_a_removed_artifact_is_made_anew(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    name = artifacts(first[1].result)["soft_targets"]
    shutil.rmtree(tmp_path / "outputs" / name)
    result = inside("distill", *TINY, cwd=tmp_path).result
    assert cached(result) == {"teacher", "student", "baseline"}
    for path in (tmp_path / "outputs" / name).glob("*.safetensors"):
        assert digest(path) == digest(first[0] / "outputs" / name / path.name)
