import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from watching import Seen

from kd_cli import device
from kd_cli.data.augment import Shift
from kd_cli.data.samples import Split
from kd_cli.data.splits import with_labels
from kd_cli.errors import ConfigError
from kd_cli.measure.prediction import predict
from kd_cli.models.cnn import cnn
from kd_cli.models.mlp import mlp
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit
from kd_cli.train.plateau import Plateau
from kd_cli.train.population import Member, capacity, fit_population, of_member
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import constant, cosine, one_cycle

CPU = torch.device("cpu")
SEEDS = (0, 1, 0, 2)
OBJECTIVES = [Hinton(1.0, 0.9, 0.1), Hinton(4.0, 0.5, 0.5), Hinton(20.0, 1.0, 0.0), Hinton(2.5, 0.2, 3.0)]
SGDS = [
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    {"lr": 0.02, "momentum": 0.0, "weight_decay": 0.0},
    {"lr": 0.02, "momentum": 0.0, "weight_decay": 0.0},
    {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1},
]


def answers(positions: Tensor, view: int, images: Tensor) -> Tensor:
    """What a teacher might say: sharp, and of the position and the view alone."""
    return 8 * torch.sin(positions[:, None] * torch.arange(1.0, 11.0) + view)


def net(seed: int, dropout: float = 0.0, widths: tuple[int, ...] = (24, 17)) -> nn.Module:
    torch.manual_seed(seed)
    return mlp(10, (1, 8, 8), widths, dropout, dropout / 2, mean=[0.3], std=[0.4])


def member(k: int, split: Split, dropout: float = 0.0, **changes: Any) -> Member:
    """The k-th of four that differ in all they may; the first and the third share their seed."""
    plain = changes.pop("plain", False)
    optimizer = changes.pop("optimizer", partial(torch.optim.SGD, **SGDS[k]))
    recipe = Recipe(**{"epochs": 2, "batch_size": 32, "optimizer": optimizer, "scheduler": cosine} | changes)
    batches = Batches(split, 32, SEEDS[k], CPU, Shift(1), 3, 2, None if plain else answers)
    return Member(net(k, dropout), batches, CrossEntropy() if plain else OBJECTIVES[k], recipe)


def both(make: Callable[[int], Member], validation: Split | None = None) -> tuple[list[Any], list[Any]]:
    """Models and histories of four members trained each alone, and of the same trained together."""
    alone, together = [make(k) for k in range(4)], [make(k) for k in range(4)]
    histories: list[list[dict[str, float]]] = [[] for _ in alone]
    for one, history in zip(alone, histories, strict=True):
        fit(one.model, one.batches, one.objective, one.recipe, validation, watch=Seen(epoch=history.append))
    records: list[dict[str, float]] = []
    assert fit_population(together, validation, watch=Seen(epoch=records.append))[0] == [True] * 4
    return (
        [(one.model, history) for one, history in zip(alone, histories, strict=True)],
        [(one.model, [of_member(record, k) for record in records]) for k, one in enumerate(together)],
    )


def farthest(one: nn.Module, other: nn.Module) -> float:
    """The largest difference of two networks' weights, relative to the largest weight of its tensor."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)) for a, b in pairs)


RECIPES = {
    "plain numbers": {},
    "dropout": {"dropout": 0.5},
    "clipped": {"clip": 0.3},
    "max-norm": {"max_norm": 0.4},
    "nesterov": {"optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True)},
    "AdamW": {"optimizer": partial(torch.optim.AdamW, lr=0.003, weight_decay=0.1)},
    "one cycle": {"scheduler": one_cycle},
    "without a teacher": {"plain": True},
    "all at once": {"dropout": 0.3, "clip": 1.0, "max_norm": 0.6},
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_first_steps_are_those_of_training_alone(few: Split, name: str) -> None:
    steps = few.select(torch.arange(96))  # 3 steps an epoch
    changes = {"epochs": 1, **RECIPES[name]}
    alone, together = both(lambda k: member(k, steps, **changes))
    for (model, _), (other, _) in zip(alone, together, strict=True):
        assert farthest(model, other) < (3e-5 if name == "AdamW" else 2e-6)  # AdamW divides by gradients near 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_short_training_ends_as_alone(few: Split, name: str) -> None:
    """Rounding differs, and a unit at zero may fall to the other side: 99 of 100 predictions are the same."""
    alone, together = both(lambda k: member(k, few, **{"epochs": 6, **RECIPES[name]}))
    for (model, history), (other, records) in zip(alone, together, strict=True):
        same = predict(model, few, CPU).argmax(1) == predict(other, few, CPU).argmax(1)
        assert same.float().mean() >= 0.99
        assert [set(record) for record in records] == [set(record) for record in history]
        for record, expected in zip(records, history, strict=True):
            assert record["epoch"] == expected["epoch"]
            for key in set(record) - {"samples_per_second", "epoch"}:
                tolerance = {"abs": 0.01} if key == "train_accuracy" else {"rel": 1e-3, "abs": 1e-5}
                assert record[key] == pytest.approx(expected[key], **tolerance), key


def test_members_that_differ_in_all_they_may_are_different(few: Split) -> None:
    _, together = both(lambda k: member(k, few))
    assert all(farthest(together[0][0], model) > 1e-2 for model, _ in together[1:])


@pytest.mark.parametrize("labels", [0.3, "none"])
def test_partial_labels_count_as_alone(few: Split, labels: float | str) -> None:
    split = with_labels(few, labels, 0)
    alone, together = both(lambda k: member(k, split, epochs=1))
    for (model, history), (other, records) in zip(alone, together, strict=True):
        assert farthest(model, other) < 1e-5
        assert set(records[0]) == set(history[0])
        assert records[0]["hard"] == pytest.approx(history[0]["hard"], rel=1e-5)
        assert records[0].get("train_accuracy") == history[0].get("train_accuracy")


def test_bf16_computes_as_alone_to_its_own_precision(few: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "native_bf16", lambda device: True)  # elsewhere it is emulated: slow, but the same
    alone, together = both(lambda k: member(k, few, dropout=0.2, precision="bf16-mixed", epochs=1))
    exact, _ = both(lambda k: member(k, few, dropout=0.2, epochs=1))
    for (model, _), (other, _), (full, _) in zip(alone, together, exact, strict=True):
        assert farthest(model, other) < 0.02
        assert farthest(full, other) > 1e-5, "half precision leaves its traces"
        assert {p.dtype for p in other.parameters()} == {torch.float32}


def test_each_member_keeps_its_own_best_epoch(digits: Any, few: Split) -> None:
    validation = digits.validation
    noisy = {"select": "best_validation", "epochs": 6, "scheduler": constant, "dropout": 0.5}
    alone, together = both(lambda k: member(k, few, **noisy), validation)
    for (model, history), (other, records) in zip(alone, together, strict=True):
        accuracies = [record["validation_accuracy"] for record in records]
        assert accuracies == pytest.approx([record["validation_accuracy"] for record in history], abs=0.011)
        right = (predict(other, validation, CPU).argmax(1) == validation.labels).float().mean()
        assert float(right) == pytest.approx(max(accuracies))
        assert (predict(model, few, CPU).argmax(1) == predict(other, few, CPU).argmax(1)).float().mean() >= 0.97


def test_a_member_whose_loss_is_lost_leaves_the_others_as_they_are(few: Split) -> None:
    def make(k: int, lr: float) -> Member:
        return member(k, few, optimizer=partial(torch.optim.SGD, lr=lr if k == 1 else 0.05), epochs=3)

    records: list[dict[str, float]] = []
    lost = [make(k, 1e30) for k in range(4)]
    assert fit_population(lost, watch=Seen(epoch=records.append))[0] == [True, False, True, True]
    assert all({name.partition(".")[0] for name in record} == {"0", "2", "3"} for record in records)
    well = [make(k, 0.05) for k in range(4)]
    assert fit_population(well)[0] == [True] * 4
    for k in (0, 2, 3):
        assert farthest(well[k].model, lost[k].model) < 1e-4
    assert fit_population([make(1, math.inf)])[0] == [False]


def test_the_members_are_left_independent_and_in_eval_mode(few: Split) -> None:
    members = [member(k, few) for k in range(4)]
    fit_population(members)
    before = [p.clone() for p in members[1].model.parameters()]
    with torch.no_grad():
        for p in members[0].model.parameters():
            assert p.is_contiguous()
            assert p.untyped_storage().nbytes() == p.numel() * 4
            p.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before, members[1].model.parameters(), strict=True))
    assert not any(one.model.training for one in members)


def test_stacks_are_as_large_as_gain_from_it() -> None:
    sizes = [capacity(mlp(10, (1, 28, 28), [width, width]), CPU) for width in (30, 128, 800)]
    assert sizes[0] is not None
    assert sizes[0] > 16
    assert sizes[1:] == [4, 1]
    assert capacity(mlp(10, (1, 28, 28), [800]), torch.device("cuda")) is None


def frozen() -> nn.Module:
    model = net(0)
    model[3].requires_grad_(False)
    return model


LAYERS = "model must be Normalise, Flatten, then Linear, ReLU and Dropout layers in a population, got {}."
REFUSED = {
    "a convolution": (lambda: cnn(10, (1, 8, 8)), {}, LAYERS.format("'Conv2d'")),
    "a module": (lambda: nn.Linear(64, 10), {}, LAYERS.format("'Linear'")),
    "batch norm": (lambda: net(0).append(nn.BatchNorm1d(10)), {}, LAYERS.format("'BatchNorm1d'")),
    "frozen": (frozen, {}, "model must be without shared or frozen layers in a population, got 'some'."),
    "optimizer": (
        lambda: net(0),
        {"optimizer": partial(torch.optim.RMSprop, lr=0.1)},
        "train.optimizer must be one of SGD, Adam, AdamW in a population, got 'RMSprop'.",
    ),
    "precision": (
        lambda: net(0),
        {"precision": "16-mixed"},
        "train.precision must be one of auto, 32, bf16-mixed in a population, got '16-mixed'.",
    ),
    "accumulation": (
        lambda: net(0),
        {"accumulate": 2},
        "train.accumulate must be 1 in a population, got 2.",
    ),
    "patience": (lambda: net(0), {"patience": 2}, "train.patience must be null in a population, got 2."),
    "class weights": (
        lambda: net(0),
        {"class_weights": "balanced"},
        "train.class_weights must be null in a population, got 'balanced'.",
    ),
    "another start": (
        lambda: net(0),
        {"start_from": "elsewhere"},
        "train.start_from must be null in a population, got 'elsewhere'.",
    ),
    "plateau": (
        lambda: net(0),
        {"scheduler": partial(Plateau, watch="loss")},
        "train.scheduler must be one that depends on steps alone in a population, got 'Plateau'.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_population_cannot_train_is_refused_by_name(few: Split, name: str) -> None:
    model, changes, message = REFUSED[name]
    one = member(0, few, **changes)
    with pytest.raises(ConfigError) as refusal:
        fit_population([Member(model(), one.batches, one.objective, one.recipe)])
    assert str(refusal.value) == f"{message} Leave out hydra/launcher=population to train one after the other."
