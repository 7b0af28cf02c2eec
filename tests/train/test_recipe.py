import math

import pytest
import torch

from kd_cli.device import find_device
from kd_cli.errors import ConfigError
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "train.epochs must be a whole number ≥ 1, got 0."),
        ({"epochs": 1.5}, "train.epochs must be a whole number ≥ 1, got 1.5."),
        ({"batch_size": True}, "train.batch_size must be a whole number ≥ 1, got True."),
        ({"precision": 16}, "train.precision must be one of auto, 32, bf16-mixed, 16-mixed, got '16'."),
        ({"max_norm": 0}, "train.max_norm must be > 0 or null, got 0."),
        ({"max_norm": "3"}, "train.max_norm must be > 0 or null, got '3'."),
        ({"clip": -1}, "train.clip must be > 0 or null, got -1."),
        ({"clip": math.nan}, "train.clip must be > 0 or null, got nan."),
        ({"clip": True}, "train.clip must be > 0 or null, got True."),
        ({"select": "best"}, "train.select must be last or best_validation, got 'best'."),
    ],
)
def test_a_recipe_outside_its_rules_is_refused(recipe, changes, message):
    with pytest.raises(ConfigError) as refusal:
        recipe(**changes)
    assert str(refusal.value) == message


def test_a_precision_typed_as_a_number_is_understood(recipe):
    assert recipe(precision=32).precision == "32"


def test_values_that_torch_refuses_are_refused_before_training(small_net, recipe, few):
    with pytest.raises(ConfigError, match=r"^train\.optimizer must be one that torch accepts, got .*learning rate: -1"):
        fit(small_net(), Batches(few, 32, 0, CPU), CrossEntropy(), recipe(lr=-1.0))


def test_auto_finds_a_device_and_a_missing_one_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device("auto") == find_device("cpu") == CPU
    with pytest.raises(ConfigError) as refusal:
        find_device("cuda")
    assert str(refusal.value) == "device must be one that this machine has (auto, cpu), got 'cuda'."
