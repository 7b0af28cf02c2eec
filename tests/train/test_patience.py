"""Trainings that look at what they gain: early stopping and the plateau schedule."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import history, net
from torch import nn
from watching import Seen

from kd_cli.data.augment import Shift
from kd_cli.data.samples import Split
from kd_cli.errors import ConfigError
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.store.history import HISTORY
from kd_cli.train.batches import Batches
from kd_cli.train.checkpoint import Checkpoint
from kd_cli.train.fit import fit
from kd_cli.train.patience import exhausted
from kd_cli.train.plateau import Plateau
from kd_cli.train.schedules import constant

CPU = torch.device("cpu")


def flat(accuracies: list[float]) -> list[dict[str, float]]:
    return [{"validation_accuracy": accuracy} for accuracy in accuracies]


@pytest.mark.parametrize(
    ("accuracies", "ends"),
    [([], False), ([0.5], False), ([0.5, 0.6, 0.6], False), ([0.5, 0.6, 0.6, 0.59], True), ([0.6, 0.5, 0.7], False)],
)
def test_patience_ends_with_the_epochs_that_gained_nothing(accuracies, ends) -> None:
    assert exhausted(flat(accuracies), 2) is ends
    assert not exhausted(flat(accuracies), None)


def contrary(split: Split) -> Split:
    """What is learnt is wrong here, the more the longer it is learnt."""
    return split.with_labels((split.labels + 1) % 10)


@pytest.mark.parametrize("select", ["last", "best_validation"])
def test_a_training_ends_early_and_keeps_what_select_says(few, recipe, select) -> None:
    model = net()
    batches, rule = Batches(few, 32, 0, CPU), recipe(epochs=30, patience=3, select=select)
    records = history(model, batches, rule, contrary(few))
    best = max(range(len(records)), key=lambda k: records[k]["validation_accuracy"])
    assert len(records) == best + 4 < 30
    other = net()
    kept = recipe(epochs=len(records) if select == "last" else best + 1)
    history(other, Batches(few, 32, 0, CPU), kept, contrary(few))
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)


def test_a_plateau_lowers_the_learning_rate_when_nothing_is_gained(few, recipe) -> None:
    def plateau(*a: Any) -> Plateau:
        return Plateau(*a, watch="validation", factor=0.5, patience=1)

    records = history(net(), Batches(few, 32, 0, CPU), recipe(epochs=10, scheduler=plateau), contrary(few))
    rates = [record["lr"] for record in records]
    assert rates[0] == 0.1
    assert rates[-1] < 0.1
    assert {round(before / after, 6) for before, after in pairwise(rates)} == {1, 2}


def test_a_plateau_of_the_training_loss_needs_no_validation(few, recipe) -> None:
    def plateau(*a: Any) -> Plateau:
        return Plateau(*a, watch="loss", factor=0.1, patience=0, threshold=0.9)

    records = history(net(), Batches(few, 32, 0, CPU), recipe(epochs=3, scheduler=plateau))
    assert [record["lr"] for record in records] == pytest.approx([0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"patience": 3}, "patience must be null"),
        ({"scheduler": Plateau}, "scheduler.watch must be loss"),
        ({"select": "best_validation"}, "select must be last"),
    ],
)
def test_what_looks_at_a_validation_split_wants_one(small_net, recipe, changes, key) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.{key} where there is no validation split, .* dataset\.validation"):
        recipe(**changes).check(small_net(), None)
    assert recipe(**changes).sees_validation
    assert not recipe().sees_validation


@pytest.mark.parametrize(
    ("key", "value"),
    [("watch", "train"), ("factor", 1), ("factor", 0), ("patience", -1), ("patience", 1.5), ("threshold", 1)],
)
def test_a_plateau_that_cannot_be_is_refused(small_net, recipe, key, value) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.scheduler\.{key} must be"):
        recipe(scheduler=lambda *a: Plateau(*a, **{key: value})).values()


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_patience_that_is_none_is_refused(recipe, value) -> None:
    with pytest.raises(ConfigError, match=r"^train\.patience must be a whole number of epochs ≥ 1 or null"):
        recipe(patience=value)


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [2, 5])
def test_broken_off_they_end_in_the_same_bits(tmp_path: Path, few, recipe, stop) -> None:
    """The schedule and the end depend on the epochs before the break."""

    def plateau(*a: Any) -> Plateau:
        return Plateau(*a, factor=0.5, patience=0)

    def train(folder: Path, breaks: bool) -> nn.Module:
        folder.mkdir(exist_ok=True)
        model, rule = net(), recipe(epochs=20, patience=4, scheduler=plateau, accumulate=2)

        def on_step(epoch: int, step: int) -> None:
            if breaks and (epoch, step) == (stop, 2):
                raise Stop

        with (folder / HISTORY).open("a", buffering=1) as lines:
            fit(
                model, Batches(few, 32, 5, CPU, Shift(1), 3), CrossEntropy(), rule, contrary(few),
                checkpoint=Checkpoint(folder, "student", 20, 1, None, {}),
                watch=Seen(on_step, lambda record: print(json.dumps(record), file=lines)),
            )  # fmt: skip
        return model

    undisturbed = train(tmp_path / "whole", breaks=False)
    ended = len((tmp_path / "whole" / HISTORY).read_text().splitlines())
    assert stop < ended < 20
    with pytest.raises(Stop):
        train(tmp_path / "broken", breaks=True)
    resumed = train(tmp_path / "broken", breaks=False)
    for one, other in zip(undisturbed.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert len((tmp_path / "broken" / HISTORY).read_text().splitlines()) == ended
    again = train(tmp_path / "whole", breaks=False)  # from the checkpoint of its end: nothing is left to do
    assert all(torch.equal(*pair) for pair in zip(again.parameters(), undisturbed.parameters(), strict=True))


def test_constant_is_still_constant(few, recipe) -> None:
    assert {record["lr"] for record in history(net(), Batches(few, 32, 0, CPU), recipe(scheduler=constant))} == {0.1}
