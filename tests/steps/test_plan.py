"""The config becomes a plan once, and what needs no data is refused before any is read."""

from dataclasses import is_dataclass
from pathlib import Path

import pytest
from omegaconf import DictConfig, ListConfig
from running import inside

from kd_cli.steps import plan as plans

NO_DATA = ("dataset=mnist", "dataset.root=nowhere", "dataset.download=false")


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("student.train.batch_size=0",), "student.train.batch_size must be a whole number ≥ 1, got 0."),
        (("teacher.train.clip=0",), "teacher.train.clip must be > 0 or null, got 0."),
        (("student.train.optimizer.lr=-1",), "student.train.optimizer must be one that torch accepts"),
        (("teacher.seed=-1",), "teacher.seed must be a whole number ≥ 0, got -1."),
        (("teacher=ensemble", "teacher.combine=harmonic"), "teacher.combine must be one of"),
        (("teacher=ensemble", "teacher.member.train.epochs=0"), "teacher.member.train.epochs must be a whole number"),
        (("objective._target_=kd_cli.nothing",), "objective cannot be built"),
        (("transfer.views=2",), "transfer.views must be 1 where transfer.augment is null, got 2."),
        (("teacher.online=true", "targets.top_k=2"), "targets.top_k must be null with teacher.online=true"),
    ],
)
def test_what_needs_no_data_is_refused_before_data_are_read(
    words: tuple[str, ...], refusal: str, tmp_path: Path
) -> None:
    done = inside("distill", *NO_DATA, *words, cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith(refusal), done.err
    assert list(tmp_path.iterdir()) == []


def test_the_data_are_missed_where_nothing_else_is_wrong(tmp_path: Path) -> None:
    done = inside("distill", *NO_DATA, cwd=tmp_path)
    assert done.status == 1
    assert "nowhere" in done.err


def test_no_plan_holds_a_node_of_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[plans.Plan] = []
    plan_of = plans.plan_of
    monkeypatch.setattr("kd_cli.commands.distill.plan_of", lambda cfg: made.append(plan_of(cfg)) or made[0])
    inside("distill", "teacher=ensemble", "teacher.size=2", "dataset.size=0", cwd=tmp_path)
    waiting, seen = [made[0]], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        assert not isinstance(value, DictConfig | ListConfig), value
        if is_dataclass(value):
            waiting += vars(value).values()
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    assert seen > 50
