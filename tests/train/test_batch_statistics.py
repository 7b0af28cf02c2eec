"""Batch norm that is evaluated with other statistics than it learnt with."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Outcome, inside
from torch import Tensor, nn

from kd_cli.data.samples import Split
from kd_cli.data.splits import with_labels
from kd_cli.errors import ConfigError
from kd_cli.measure.prediction import predict
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batch_statistics import describe, settle
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit

CPU = torch.device("cpu")


def net(momentum: float | None = 0.001, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(32, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def trained(split: Split, recipe: Any, model: nn.Module | None = None, epochs: int = 8) -> tuple[nn.Module, Batches]:
    model, batches = model or net(), Batches(split, 32, 0, CPU)
    fit(model, batches, CrossEntropy(), recipe(epochs=epochs, lr=0.05))
    return model, batches


def wrong(model: nn.Module, split: Split) -> int:
    return int((predict(model, split, CPU).argmax(1) != split.labels).sum())


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_statistics_that_lag_behind_are_taken_anew(digits, recipe) -> None:
    model, batches = trained(digits.train, recipe, epochs=2)
    lost = wrong(model, digits.test)
    about = settle(model, batches, 1, "auto")
    assert about is not None
    assert (about["settled"], about["used"], about["samples"]) == (False, "recomputed", 1098)
    assert about["errors_recomputed"] < about["errors_as_trained"]
    assert wrong(model, digits.test) < lost / 2
    assert not model.training
    assert "had not settled" in str(describe(about))
    assert {norm.momentum for norm in model if isinstance(norm, nn.BatchNorm1d)} == {0.001}


def test_statistics_as_trained_stay_and_are_told(few, recipe) -> None:
    model, batches = trained(few, recipe)
    before = state(model)
    about = settle(model, batches, 7, "as_trained")
    assert about is not None
    assert (about["settled"], about["used"]) == (False, "as_trained")
    assert same(before, state(model)), "comparing must not move a buffer"
    assert "kept as trained" in str(describe(about))


def settled(few, recipe, mode: str, used: str):
    """A model whose statistics had settled, its state before they were looked at, and what was found."""
    model, batches = trained(few, recipe, net(momentum=0.1), epochs=20)
    before = state(model)
    about = settle(model, batches, 19, mode)
    assert about is not None
    assert (about["settled"], about["used"]) == (True, used)
    return model, before, about


def test_statistics_that_have_settled_are_left_to_the_bit(few, recipe) -> None:
    model, before, about = settled(few, recipe, "auto", "as_trained")
    assert same(before, state(model))
    assert describe(about) is None


def test_dropout_is_no_reason_to_doubt_them(few, recipe) -> None:
    """It spreads what the second batch norm sees: statistics of training without it would be others."""
    model, batches = trained(few, recipe, net(momentum=0.1, dropout=0.8), epochs=20)
    about = settle(model, batches, 19, "auto")
    assert about is not None
    assert about["settled"]


class Counting(nn.Module):
    """Has a buffer of its own that training moves."""

    def __init__(self) -> None:
        super().__init__()
        self.body = net()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.seen = self.seen + len(images)
        return self.body(images)


@pytest.mark.parametrize("mode", ["as_trained", "recomputed"])
def test_no_other_buffer_is_touched(few, mode) -> None:
    model = Counting()
    settle(model, Batches(few, 32, 0, CPU), 0, mode)
    assert model.seen == 0


def test_they_can_be_taken_anew_always(few, recipe) -> None:
    model, before, _ = settled(few, recipe, "recomputed", "recomputed")
    assert not same(before, state(model))
    weights = [name for name in before if "running" not in name and "tracked" not in name]
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in weights)


def test_taken_anew_they_are_the_means_over_the_samples(few, recipe) -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    batches = Batches(few, 32, 0, CPU)  # the last batch has 22
    settle(model, batches, 0, "recomputed")
    images = torch.cat([batch.inputs for batch in batches.epoch(0)]).flatten(1)
    torch.testing.assert_close(model[1].running_mean, images.mean(0))


def test_a_network_without_them_is_not_looked_at(few, small_net) -> None:
    assert settle(small_net(), Batches(few, 32, 0, CPU), 0, "recomputed") is None


class Frozen(nn.Module):
    """Keeps its statistics while it learns, as for fine-tuning."""

    def __init__(self) -> None:
        super().__init__()
        self.body = net()

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self


@pytest.mark.parametrize(
    "model", [Frozen(), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(64, 10))]
)
def test_statistics_that_a_network_keeps_fixed_or_does_not_keep_stay(model, few) -> None:
    before = state(model)
    assert settle(model, Batches(few, 32, 0, CPU), 0, "recomputed") is None
    assert same(before, state(model))


def test_without_labels_the_teachers_answer_counts(digits, recipe) -> None:
    unlabelled = with_labels(digits.train, "none", 0)
    teacher = torch.nn.functional.one_hot(digits.train.labels, 10) * 10.0

    def targets(positions: Tensor, view: int, images: Tensor) -> Tensor:
        return teacher[positions]

    model, batches = net(), Batches(unlabelled, 32, 0, CPU, targets=targets)
    fit(model, batches, Hinton(1.0, 1.0, 0.0), recipe(epochs=2, lr=0.05))
    lost = wrong(model, digits.test)
    about = settle(model, batches, 1, "auto")
    assert about is not None
    assert about["used"] == "recomputed"
    assert wrong(model, digits.test) < lost / 2


def test_statistics_that_are_no_numbers_are_taken_anew(few, recipe) -> None:
    model, batches = trained(few, recipe, net(momentum=0.1), epochs=20)
    model[2].running_var.fill_(float("nan"))
    about = settle(model, batches, 19, "auto")
    assert about is not None
    assert about["used"] == "recomputed"
    assert predict(model, few, CPU).isfinite().all()


@pytest.mark.parametrize("mode", ["sometimes", True, None])
def test_another_mode_is_refused(recipe, mode) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_statistics must be one of auto, as_trained, recomputed"):
        recipe(batch_statistics=mode)


# --- the command


SLOW = """
from torch import nn


def slow(num_classes, input_shape, momentum=0.001):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, num_classes)
    )
"""
WORDS = (
    "--config-dir", "mine", "model@teacher.model=slow", "model@student.model=slow", "teacher.train.epochs=5",
    "student.train.epochs=5",
)  # fmt: skip


@pytest.fixture
def distilled(tmp_path: Path) -> Any:
    (tmp_path / "slow_models.py").write_text(SLOW)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "slow.yaml").write_text(
        "_target_: slow_models.slow\n_partial_: true\nmomentum: 0.001\n"
    )

    def run(*words: str) -> Outcome:
        return inside("distill", *WORDS, *words, cwd=tmp_path)

    return run


def test_the_same_rule_serves_teacher_student_and_baseline_and_is_told(distilled, tmp_path) -> None:
    done = distilled()
    roles = ("teacher", "student", "baseline")
    for role in roles:
        assert done.result["stages"][role]["batch_statistics"]["used"] == "recomputed", role
        assert done.result[role]["accuracy"] > 0.8
        assert f"{role}: batch statistics had not settled" in done.err
    assert "Batch statistics were taken anew from training samples for: teacher, student, baseline." in done.err
    again = distilled()
    assert "Batch statistics were taken anew" in again.err, "also where they are found"
    manifest = json.loads((tmp_path / "outputs" / again.result["student"]["artifact"] / "manifest.json").read_text())
    assert manifest["batch_statistics"]["used"] == "recomputed"


def test_as_trained_is_another_student_and_the_table_warns_of_it(distilled) -> None:
    done = distilled("student.train.batch_statistics=as_trained")
    assert done.result["student"]["accuracy"] < done.result["teacher"]["accuracy"] - 0.05
    assert "had not settled, and the figures are worse than what was learnt, for: student, baseline." in " ".join(
        done.err.split()
    )
