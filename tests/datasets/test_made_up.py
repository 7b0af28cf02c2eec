"""Data sets that are made up: noise, and classes that are confused."""

import pytest
import torch
from pixels import pixels_of

from kd_cli.datasets.confusable import confusable
from kd_cli.datasets.noise import noise
from kd_cli.errors import ConfigError


def test_noise_has_the_mean_and_spread_that_were_asked_for_and_no_labels():
    made = noise(samples=3000, channels=3, height=5, width=4, mean=0.5, std=0.1)
    pixels = pixels_of(made.transfer).double() / 255
    assert pixels.shape == (3000, 3, 5, 4)
    assert float(pixels.mean()) == pytest.approx(0.5, abs=0.002)
    assert float(pixels.std()) == pytest.approx(0.1, abs=0.002)
    flat = pixels.flatten(1)
    assert float(torch.corrcoef(flat.T).fill_diagonal_(0).abs().max()) < 0.1, "pixels are independent of each other"
    assert made.transfer.labelled == 0
    assert (made.classes, made.spec.shape, len(made.test), len(made.train)) == ((), (3, 5, 4), 0, 0)


def test_noise_is_cut_off_at_black_and_white():
    pixels = pixels_of(noise(samples=500, mean=0.1307, std=0.3081).transfer)
    assert float((pixels == 0).double().mean()) == pytest.approx(0.336, abs=0.01)  # the normal distribution below 0
    assert int((pixels == 255).sum()) > 0


def test_noise_follows_its_seed_alone():
    torch.manual_seed(1)
    first = noise(samples=50)
    torch.manual_seed(2)
    assert noise(samples=50).fingerprint == first.fingerprint
    assert noise(samples=50, seed=1).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "dataset.samples must be a whole number ≥ 1, got 0."),
        ({"height": 2.5}, "dataset.height must be a whole number ≥ 1, got 2.5."),
        (
            {"samples": 1, "height": 2**15, "width": 2**15},
            "dataset.channels × dataset.height × dataset.width must be at most 4,194,304, got 1073741824.",
        ),
        (
            {"samples": 2**24 + 1, "height": 1, "width": 1},
            "dataset.samples must be at most 16,777,216, got 16777217.",
        ),
        ({"samples": 10**9}, "dataset.samples must be such that the images take at most 2 GiB, got 1000000000."),
        ({"mean": 1.5}, "dataset.mean must be between 0 and 1, got 1.5."),
        ({"mean": float("nan")}, "dataset.mean must be between 0 and 1, got nan."),
        ({"std": 0}, "dataset.std must be > 0 and ≤ 1, got 0."),
        ({"std": "much"}, "dataset.std must be > 0 and ≤ 1, got 'much'."),
        ({"seed": -1}, "dataset.seed must be a whole number ≥ 0, got -1."),
    ],
)
def test_noise_outside_its_rules_is_refused(arguments, message):
    with pytest.raises(ConfigError) as refusal:
        noise(**arguments)
    assert str(refusal.value) == message


@pytest.mark.parametrize(("groups", "classes_each"), [(10**6, 2), (2, 501), (10**5, 10**5)])
def test_confusable_classes_are_bounded(groups, classes_each):
    with pytest.raises(ConfigError) as refusal:
        confusable(groups=groups, classes_each=classes_each)
    assert str(refusal.value) == (
        f"dataset.groups × dataset.classes_each must be at most 1,000, got {groups * classes_each}."
    )
