"""Teachers of every source."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from left import JITTER, artifacts, cached
from running import TINY, Outcome, inside
from safetensors.torch import load_file, save_file

from kd_cli.commands import train_teacher
from kd_cli.steps.teacher import Teacher


def test_an_online_teacher_stores_no_targets(again: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "outputs" / "soft_targets")
    result = again("teacher.online=true", JITTER)
    assert cached(result) == {"teacher"}, "the same teacher, however it is asked"
    assert "soft_targets" not in result["stages"]
    assert not (tmp_path / "outputs" / "soft_targets").exists()
    history = (tmp_path / "outputs" / artifacts(result)["student"] / "history.jsonl").read_text()
    assert {"soft", "hard"} <= set(json.loads(history.splitlines()[0]))
    assert cached(again("teacher.online=true", JITTER)) == {"teacher", "student", "baseline"}


def test_without_augmentation_an_online_teacher_teaches_what_its_stored_targets_would(
    first: tuple[Path, Outcome], again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = again("teacher.online=true")
    assert cached(result) == {"teacher", "baseline"}
    online = load_file(tmp_path / "outputs" / artifacts(result)["student"] / "model.safetensors")
    stored = load_file(first[0] / "outputs" / artifacts(first[1].result)["student"] / "model.safetensors")
    for name, value in stored.items():
        torch.testing.assert_close(online[name], value, atol=2e-3, rtol=1e-2)


def test_an_online_teacher_has_nothing_to_dump(tmp_path: Path) -> None:
    done = inside("dump-targets", "teacher.online=true", cwd=tmp_path)
    expected = "teacher.online must be false for kd dump-targets, got True. An online teacher has nothing to dump.\n"
    assert (done.status, done.err) == (1, expected)


# Teachers from elsewhere.


def test_a_student_of_an_earlier_run_as_a_teacher(first: tuple[Path, Outcome]) -> None:
    before = first[1].result
    student = before["student"]["artifact"]
    words = ("teacher=artifact", TINY[1], "student.model.widths=[8]", "baseline=false")
    for path in (f"outputs/{student}", str(first[1].run)):
        result = inside("distill", *words, f"teacher.path={path}", cwd=first[0]).result
        assert result["teacher"]["errors"] == before["student"]["errors"]
        assert result["teacher"]["params"] == before["student"]["params"]
        assert result["stages"]["teacher"]["cached"] is True
        assert result["stages"]["teacher"]["artifact"] == student
    assert {"soft_targets", "student"} <= cached(result), "the path is not part of the identity, the weights are"


def test_a_stored_teacher_gives_the_targets_that_it_gave_when_it_was_trained(first: tuple[Path, Outcome]) -> None:
    before = first[1].result
    words = ("teacher=artifact", f"teacher.path=outputs/{before['teacher']['artifact']}", TINY[1], "baseline=false")
    result = inside("distill", *words, cwd=first[0]).result
    folder = first[0] / "outputs"
    names = [artifacts(made)["soft_targets"] for made in (before, result)]
    theirs, ours = (load_file(folder / name / "logits-00000.safetensors")["logits"] for name in names)
    assert torch.equal(theirs, ours)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_checkpoint_as_a_teacher(suffix: str, first: tuple[Path, Outcome], tmp_path: Path) -> None:
    before = first[1].result
    weights = load_file(first[0] / "outputs" / before["teacher"]["artifact"] / "model.safetensors")
    path = tmp_path / f"x.{suffix}"
    if suffix == "pt":
        torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    else:
        save_file(weights, path)
    words = ("teacher=checkpoint", f"teacher.path={path}", "model@teacher.model=cnn", "teacher.model.dropout=0.5")
    result = inside("distill", *words, TINY[1], "baseline=false", cwd=tmp_path).result
    assert result["teacher"]["errors"] == before["teacher"]["errors"]
    assert result["teacher"]["params"] == before["teacher"]["params"]


def test_the_classes_of_a_checkpoint_are_mapped_to_the_data_sets(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    before = first[1].result
    weights = load_file(first[0] / "outputs" / before["teacher"]["artifact"] / "model.safetensors")
    last = max((name.removesuffix(".weight") for name in weights if name.endswith(".weight")), key=int)
    for name in (f"{last}.weight", f"{last}.bias"):  # eleven outputs: one class that the digits lack, and reversed
        weights[name] = torch.cat([weights[name].flip(0), weights[name][:1] + 50])
    save_file(weights, tmp_path / "x.safetensors")
    words = ("teacher=checkpoint", "teacher.path=x.safetensors", "model@teacher.model=cnn")
    classes = "teacher.classes=[9,8,7,6,5,4,3,2,1,0,ten]"
    result = inside(
        "distill", *words, "teacher.model.dropout=0.5", classes, TINY[1], "baseline=false", cwd=tmp_path
    ).result
    assert result["teacher"]["errors"] == before["teacher"]["errors"]


# The three models draw independently.


@pytest.mark.parametrize("rate", [1e-30, 0.1])  # the weights stay the initial ones, or the order of samples counts too
def test_no_student_draws_what_a_teacher_of_its_network_recipe_and_seed_drew(rate: float, tmp_path: Path) -> None:
    same = ("model@teacher.model=mlp_64", "teacher.model.widths=[32]", "teacher.train=${student.train}")
    words = (*same, "student.model.widths=[32]", "student.train.epochs=2", f"student.train.optimizer.lr={rate}")
    result = inside("distill", *words, "soft_weight=0", "hard_weight=1", cwd=tmp_path).result
    teacher, student, baseline = (
        load_file(tmp_path / "outputs" / result[role]["artifact"] / "model.safetensors")
        for role in ("teacher", "student", "baseline")
    )
    matrices = [name for name, value in teacher.items() if value.ndim == 2]
    assert len(matrices) == 2
    for name in matrices:
        alone, taught = baseline[name].flatten(), teacher[name].flatten()
        assert not torch.equal(alone, taught)
        if rate < 1e-9:
            assert torch.equal(alone, student[name].flatten())  # these two are paired
            assert abs(torch.corrcoef(torch.stack([alone, taught]))[0, 1]) < 0.2


def test_nothing_of_a_teacher_learns_any_more(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    taught: list[Teacher] = []
    obtain = train_teacher.obtain_teacher
    with mock.patch.object(train_teacher, "obtain_teacher", lambda *asked: taught.append(obtain(*asked)) or taught[0]):
        assert inside("train-teacher", TINY[0], cwd=tmp_path).status == 0
    assert not any(parameter.requires_grad for parameter in taught[0].network.parameters())


@pytest.mark.parametrize(("seed", "said"), [(0, True), (1, False)])
def test_a_student_whose_teacher_was_a_student_of_its_seed_is_told(
    seed: int, said: bool, first: tuple[Path, Outcome], tmp_path: Path
) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    path = f"teacher.path={tmp_path / 'outputs' / first[1].result['student']['artifact']}"
    done = inside("distill", "teacher=artifact", path, TINY[1], f"seed={seed}", "baseline=false", cwd=tmp_path)
    assert done.status == 0, done.err
    assert ("began from the same weights: change seed" in done.err) == said
