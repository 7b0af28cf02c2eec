import pytest
import torch
from pixels import pixels_of
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

from kd_cli.datasets import digits as digits_module
from kd_cli.errors import ConfigError


def test_digits_are_scikit_learns(digits):
    theirs = load_digits()
    everything = digits_module.digits()
    found = torch.cat([pixels_of(everything.train), pixels_of(everything.test)])
    index = torch.cat([everything.train.index, everything.test.index])
    assert torch.equal(index.sort().values, torch.arange(1797))
    expected = torch.from_numpy(theirs.images * 255 / 16).floor().to(torch.uint8)[index]
    assert torch.equal(found[:, 0], expected)
    labels = torch.cat([everything.train.labels, everything.test.labels])
    assert torch.equal(labels, torch.from_numpy(theirs.target)[index])
    assert everything.classes == tuple("0123456789")
    assert everything.spec.shape == (1, 8, 8)


def test_the_test_split_of_digits_is_fixed_and_stratified():
    plain, carved = digits_module.digits(), digits_module.digits(validation=0.1, seed=5)
    assert (len(plain.train), len(plain.test), plain.validation) == (1198, 599, None)
    assert torch.equal(plain.test.index, carved.test.index)
    whole_share = (plain.train.labels.bincount() + plain.test.labels.bincount()) / 3
    assert (plain.test.labels.bincount() - whole_share).abs().max() <= 1
    assert (len(carved.train), len(carved.validation)) == (1078, 120)
    parts = torch.cat([carved.train.index, carved.validation.index, carved.test.index])
    assert len(parts.unique()) == 1797
    assert carved.transfer is carved.train


def test_digits_are_the_bytes_that_every_figure_was_measured_on():
    expected = "3a7791f1a12191bc29df33bd89a3dd48ad5a09a41d24969ba381709217d262b7"
    assert digits_module.digits().fingerprint == digits_module.digits(size=8).fingerprint == expected


@pytest.mark.parametrize("size", [4, 28])
def test_digits_of_another_size_are_the_same_samples_resized(size):
    plain, resized = digits_module.digits(), digits_module.digits(size=size)
    assert resized.spec.shape == (1, size, size)
    for theirs, ours in ((plain.train, resized.train), (plain.test, resized.test)):
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.labels, theirs.labels)
        assert ours.samples.spec.shape == (1, size, size)
        expected = interpolate(pixels_of(theirs).double(), (size, size), mode="bilinear", antialias=True)
        assert (pixels_of(ours).double() - expected).abs().max() <= 1, "rounded twice, in fixed point"


@pytest.mark.parametrize("size", [0, -1, 257, 2.0, True, "8", None])
def test_a_size_outside_its_rule_is_refused(size):
    with pytest.raises(ConfigError, match=r"^dataset\.size must be a whole number from 1 to 256, got "):
        digits_module.digits(size=size)


def test_the_fingerprint_follows_the_content_of_the_splits():
    prints = [digits_module.digits(*arguments).fingerprint for arguments in ((), (), (0.1, 0), (0.1, 1))]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_seed_outside_its_rule_is_refused():
    with pytest.raises(ConfigError) as refusal:
        digits_module.digits(validation=0.1, seed=-1)
    assert str(refusal.value) == "dataset.seed must be a whole number ≥ 0, got -1."
