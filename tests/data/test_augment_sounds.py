"""Augmented sounds depend on the sample, its index, the seed and the view alone."""

import pytest
import torch

from kd_cli.data.augment import kind_of
from kd_cli.data.augment_sounds import ShiftNoise, SpecAugment, moved_by
from kd_cli.errors import ConfigError

WAVES = (3000 * torch.randn(6, 2000, generator=torch.Generator().manual_seed(0))).to(torch.int16)
FEATURES = 1 + torch.rand(6, 20, 50, generator=torch.Generator().manual_seed(1)).half()
EACH = [(ShiftNoise(0.2), WAVES), (SpecAugment(4, 6, 10), FEATURES)]


@pytest.mark.parametrize(("augment", "stored"), EACH)
def test_a_view_of_a_sample_is_the_same_whatever_is_asked_for_with_it(
    augment: ShiftNoise | SpecAugment, stored: torch.Tensor
) -> None:
    index = torch.tensor([5, 900, 7, 12, 3, 1])
    together = augment(stored, index, 3, 2)
    assert (together.shape, together.dtype) == (stored.shape, stored.dtype)
    for k in range(6):
        assert torch.equal(augment(stored[k : k + 1], index[k : k + 1], 3, 2)[0], together[k])
    assert not torch.equal(augment(stored, index, 3, 1), together)
    assert not torch.equal(augment(stored, index, 4, 2), together)
    assert not torch.equal(augment(stored, index + 1, 3, 2), together)


def test_each_is_for_one_kind_of_samples() -> None:
    assert kind_of(ShiftNoise()) == "audio"
    assert kind_of(SpecAugment()) == "features"


def test_what_is_moved_leaves_zeros() -> None:
    value = torch.arange(1, 5).repeat(3, 1)
    assert moved_by(value, torch.tensor([0, 1, -3])).tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [4, 0, 0, 0]]


def test_the_mask_is_moved_with_its_sound() -> None:
    mask = torch.ones(6, 2000, dtype=torch.uint8)
    found = ShiftNoise(0.3, None)({"sound": WAVES, "mask": mask}, torch.arange(6), 0, 1)
    assert int((found["mask"] == 0).sum()) > 0
    assert int(found["sound"][found["mask"] == 0].abs().max()) == 0


def test_noise_is_as_loud_as_it_is_said_to_be() -> None:
    clean = WAVES.float()
    for decibels in (0.0, 20.0):
        noise = ShiftNoise(0, (decibels, decibels))(WAVES, torch.arange(6), 0, 1).float() - clean
        ratio = 10 * torch.log10(clean.square().mean(1) / noise.square().mean(1))
        assert ratio.tolist() == pytest.approx([decibels] * 6, abs=0.5)
        assert float(noise.mean(1).abs().max()) < 0.1 * float(noise.std())


def test_at_most_one_stretch_of_bands_and_one_of_frames_is_hidden() -> None:
    many = torch.ones(400, 20, 50)
    found = SpecAugment(0, 6, 10)(many, torch.arange(400), 0, 1) == 0
    bands, frames = found.all(2).sum(1), found.all(1).sum(1)
    assert set(bands.tolist()) == set(range(7))
    assert set(frames.tolist()) == set(range(11))
    hidden = bands * 50 + frames * 20 - bands * frames
    assert torch.equal(found.flatten(1).sum(1), hidden)  # nothing but whole bands and whole frames
    ends = found.all(2).long().diff(dim=1).abs().sum(1)
    assert int(ends.max()) <= 2  # in one stretch
    assert torch.equal(SpecAugment(0, 0, 0)(FEATURES, torch.arange(6), 0, 1), FEATURES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShiftNoise(1.5), "augment.shift must be between 0 and 1, got 1.5"),
        (lambda: ShiftNoise(0, (30, 10)), "augment.snr must be two numbers of decibels in their order, or null"),
        (lambda: SpecAugment(bands=-1), "augment.bands must be a whole number ≥ 0, got -1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]
