"""Where two features meet: what one leaves to the other."""

import shutil
from pathlib import Path

import pytest
from running import TINY, inside

from kd_cli.store.inventory import inventory

FEW = (*TINY, "baseline=false")


def test_targets_read_at_another_temperature_make_another_student(tmp_path: Path) -> None:
    """Of few logits, the rest's mass is read at the run's temperature, whatever the objective makes of it."""
    words = ("distill", *FEW, "objective=logit_matching", "targets.top_k=2", "targets.temperatures=[1,20]")
    one, other = (inside(*words, f"temperature={each}", cwd=tmp_path).result for each in (1, 20))
    assert other["stages"]["soft_targets"]["cached"]
    assert one["student"]["artifact"] != other["student"]["artifact"]
    again = inside(*words, "temperature=20", cwd=tmp_path).result
    assert again["student"]["artifact"] == other["student"]["artifact"]


@pytest.mark.parametrize("teacher", [
    ("teacher=artifact", "teacher.path={path}"),
    ("teacher=ensemble", "teacher.members=[{path},cnn_digits]", "teacher.members.1.train.epochs=1"),
], ids=["alone", "in an ensemble"])  # fmt: skip
def test_a_stored_teacher_is_in_use_when_its_own_run_is_gone(teacher: tuple[str, ...], tmp_path: Path) -> None:
    made = inside("train-teacher", TINY[0], "teacher.seed=7", cwd=tmp_path)
    name = made.result["teacher"]["artifact"]
    shutil.rmtree(made.run)
    assert [entry.name for entry in inventory(tmp_path / "outputs").unused()] == [name]
    words = [word.format(path=f"outputs/{name}") for word in teacher]
    done = inside("distill", *words, "student.train.epochs=1", "baseline=false", cwd=tmp_path)
    assert done.status == 0, done.err
    assert inventory(tmp_path / "outputs").unused() == []


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (
            ("bias_correction=oracle", "transfer.only_classes=[0,1,2,3,4,5,6,7,8,9]"),
            "bias_correction must be prior or null where every class is named: one shift of all is none, got 'oracle'.",
        ),
        (
            ("bias_correction=oracle", "transfer.omit_classes=[]"),
            "bias_correction must be prior or null without transfer.omit_classes or only_classes, got 'oracle'. "
            "It shifts the classes that these name.",
        ),
        (
            ("dataset.validation=100", "transfer.dataset=digits"),
            "transfer.dataset must be another data set than dataset, got 'digits'. "
            "Its images set apart for validation would be learnt from. Set transfer.dataset=null.",
        ),
        (
            ("transfer.dataset=noise", "transfer.dataset.height=8", "transfer.dataset.width=8", "transfer.labels=none"),
            "hard_weight must be 0 for a transfer set without labels, got 0.1. "
            "Set hard_weight=0, or choose a transfer.dataset with labels of the classes of dataset=digits.",
        ),
    ],
)
def test_what_two_keys_make_impossible_is_refused(words: tuple[str, ...], refusal: str, tmp_path: Path) -> None:
    done = inside("distill", *TINY, *words, cwd=tmp_path)
    assert (done.status, done.err.splitlines()[-1]) == (1, refusal)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("teacher=ensemble", "teacher.size=2", "teacher.member.train.optimizer.lr=1e9"), "teacher.member.train"),
        (("teacher=specialists", "teacher.specialists=2", "teacher.classes_each=3",
          "teacher.generalist.train.optimizer.lr=1e9"), "teacher.generalist.train"),
    ],
)  # fmt: skip
def test_the_remedy_for_a_lost_training_names_its_own_key(words: tuple[str, ...], remedy: str, tmp_path: Path) -> None:
    done = inside("train-teacher", *words, cwd=tmp_path)
    assert done.status == 1
    assert f"Try a lower {remedy}.optimizer.lr, {remedy}.clip=1 or {remedy}.precision=32." in done.err


def test_equal_members_are_named(tmp_path: Path) -> None:
    words = (
        "teacher.members=[cnn_digits,cnn_digits]",
        "teacher.members.0.train.epochs=1",
        "teacher.members.1.train.epochs=1",
    )
    done = inside("train-teacher", "teacher=ensemble", *words, cwd=tmp_path)
    assert "members 0 and 1 are the same network: give one another seed" in done.err
