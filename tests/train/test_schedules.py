import math

import pytest
import torch
from torch.optim import SGD, Optimizer

from kd_cli.errors import ConfigError
from kd_cli.train import schedules

LR, EPOCHS, STEPS = 0.4, 5, 4
TOTAL = EPOCHS * STEPS


@pytest.fixture
def optimizer() -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(2))], lr=LR, momentum=0.9)


def rates(optimizer: Optimizer, schedule, key: str = "lr", **arguments) -> list[float]:
    """What each step of a run is trained with."""
    scheduler = schedule(optimizer, EPOCHS, STEPS, **arguments)
    seen = []
    for _ in range(TOTAL):
        seen.append(optimizer.param_groups[0][key])
        optimizer.step()
        scheduler.step()
    return seen


def test_constant(optimizer):
    assert rates(optimizer, schedules.constant) == [LR] * TOTAL


def test_cosine_is_half_a_cosine_over_the_steps_of_the_whole_run(optimizer):
    expected = [LR * (1 + math.cos(math.pi * step / TOTAL)) / 2 for step in range(TOTAL)]
    assert rates(optimizer, schedules.cosine) == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_cosine_rises_linearly_over_the_warm_up(optimizer):
    expected = [LR * (step + 1) / 6 for step in range(5)]
    expected += [LR * (1 + math.cos(math.pi * step / 15)) / 2 for step in range(15)]
    assert rates(optimizer, schedules.cosine, warmup=0.25) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0.01, 0.99])
def test_cosine_bears_a_warm_up_of_none_or_all_of_the_steps(optimizer, warmup):
    assert 0 < max(rates(optimizer, schedules.cosine, warmup=warmup)) <= LR


def test_one_cycle_peaks_after_its_rise_at_the_learning_rate_and_leaves_the_momentum(optimizer):
    seen = rates(optimizer, schedules.one_cycle, rise=0.25)
    assert seen.index(max(seen)) == pytest.approx(0.25 * TOTAL, abs=1)
    assert max(seen) == pytest.approx(LR, rel=0.05)
    assert seen[0] == pytest.approx(LR / 25)
    assert optimizer.param_groups[0]["lr"] < LR / 1000
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_one_cycle_moves_the_momentum_the_other_way(optimizer):
    seen = rates(optimizer, schedules.one_cycle, key="momentum", rise=0.5, momentum=(0.8, 0.95))
    assert (seen[0], min(seen)) == pytest.approx((0.95, 0.8), abs=1e-3)


def test_multi_step_drops_at_the_start_of_each_milestone_epoch(optimizer):
    seen = rates(optimizer, schedules.multi_step, milestones=[2, 4], gamma=0.5)
    assert seen == pytest.approx([LR] * 2 * STEPS + [LR / 2] * 2 * STEPS + [LR / 4] * STEPS)


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        (schedules.cosine, {"warmup": 1}, "train.scheduler.warmup must be a share of the run, ≥ 0 and < 1, got 1."),
        (
            schedules.cosine,
            {"warmup": -0.1},
            "train.scheduler.warmup must be a share of the run, ≥ 0 and < 1, got -0.1.",
        ),
        (schedules.one_cycle, {"rise": 0}, "train.scheduler.rise must be a share of the run, > 0 and < 1, got 0."),
        (schedules.one_cycle, {"rise": 1.0}, "train.scheduler.rise must be a share of the run, > 0 and < 1, got 1.0."),
    ],
)
def test_values_outside_their_rule_are_refused(optimizer, schedule, arguments, message):
    with pytest.raises(ConfigError) as refusal:
        schedule(optimizer, EPOCHS, STEPS, **arguments)
    assert str(refusal.value).startswith(message)
