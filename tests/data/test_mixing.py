"""Mixtures: partners, shares, pixels, and what the hard term makes of their labels."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published_draws import draw
from scipy import stats

from kd_cli.data.augment import Affine, ResizedCrop, Shift, uniform
from kd_cli.data.mixing import CutMix, Mix, Mixup
from kd_cli.data.resident import Resident
from kd_cli.data.samples import UNLABELLED, Answer, Batch, Mixture, Split
from kd_cli.data.views import show
from kd_cli.errors import ConfigError
from kd_cli.measure.prediction import predict
from kd_cli.objectives.cross_entropy import CrossEntropy, hard_loss
from kd_cli.train.batches import Batches

CPU = torch.device("cpu")
MIXES = [Mixup(), CutMix(), Mixup(0.3, Shift(2, flip=True)), CutMix(2.0, ResizedCrop()), Mixup(1.0, Affine(20))]
NAMES = ["mixup", "cutmix", "mixup of shifts", "cutmix of crops", "mixup of turns"]


def split_of(samples: int = 30, size: tuple[int, int] = (6, 7)) -> Split:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (samples, 2, *size), dtype=torch.uint8, generator=generator)
    return Split(Resident(pixels), torch.arange(samples) % 5, torch.arange(samples) * 2**40 + 3)


def whole(split: Split, mix: Mix, seed: int, view: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, partners and shares of all samples in one batch."""
    (shown,) = show(split, [torch.arange(len(split))], CPU, mix, seed, view)
    assert shown.partners is not None
    assert shown.share is not None
    return shown.stored, shown.partners, shown.share


@pytest.mark.parametrize("mix", MIXES, ids=NAMES)
@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=12), min_size=1, max_size=4),
    st.integers(0, 2**64),
    st.integers(0, 10**6),
)
def test_a_mixture_follows_from_seed_view_and_sample_in_any_batch(mix, batches, seed, view):
    split = split_of()
    expected = whole(split, mix, seed, view)
    chosen = [torch.tensor(batch) for batch in batches]
    for positions, shown in zip(chosen, show(split, chosen, CPU, mix, seed, view), strict=True):
        for found, all_ in zip((shown.stored, shown.partners, shown.share), expected, strict=True):
            assert torch.equal(found, all_[positions])


@pytest.mark.parametrize("changed", [(1, 0), (0, 1)], ids=["seed", "view"])
@pytest.mark.parametrize("mix", MIXES, ids=NAMES)
def test_another_seed_or_view_mixes_others(mix, changed):
    split = split_of()
    for one, other in zip(whole(split, mix, 0, 0), whole(split, mix, *changed), strict=True):
        assert not torch.equal(one, other)


def expected_draws(split: Split, seed: int, view: int, quantiles: np.ndarray) -> list[tuple[int, float, float, float]]:
    """Partner, λ, and the two draws of the place for each sample, from the published hash."""
    found = []
    for position, index in enumerate(split.index.tolist()):
        one, two, three, four = (draw(index, -1 - seed, view, k) for k in (1, 2, 3, 4))
        partner = (position + 1 + int(one * (len(split) - 1))) % len(split)
        found.append((partner, quantiles[int(two * 4096)], three, four))
    return found


def quantiles_of(alpha: float) -> np.ndarray:
    return np.round(stats.beta(alpha, alpha).ppf((np.arange(4096) + 0.5) / 4096) * 2**16) / 2**16


@pytest.mark.parametrize("inner", [None, Shift(2, flip=True)], ids=["bare", "of shifts"])
@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_mixup_is_the_rounded_mean_of_both_views(alpha, inner):
    split = split_of()
    pixels = split.samples.values if inner is None else inner(split.samples.values, split.index, 9, 4)
    images, partners, shares = whole(split, Mixup(alpha, inner), 9, 4)
    for k, (partner, share, _, _) in enumerate(expected_draws(split, 9, 4, quantiles_of(alpha))):
        assert (partners[k], shares[k]) == (partner, share)
        part = Fraction(float(share))
        own, other = pixels[k].flatten().tolist(), pixels[partner].flatten().tolist()
        exact = [round(part * a + (1 - part) * b) for a, b in zip(own, other, strict=True)]  # half to even
        assert images[k].flatten().tolist() == exact


@pytest.mark.parametrize("inner", [None, Shift(2, flip=True)], ids=["bare", "of shifts"])
@pytest.mark.parametrize("size", [(8, 8), (5, 11)])
def test_cutmix_puts_a_clipped_rectangle_of_the_partner_in_and_counts_its_pixels(size, inner):
    split = split_of(60, size)
    pixels = split.samples.values if inner is None else inner(split.samples.values, split.index, 2, 1)
    images, partners, shares = whole(split, CutMix(1.0, inner), 2, 1)
    met = set()
    for k, (partner, share, down, right) in enumerate(expected_draws(split, 2, 1, quantiles_of(1.0))):
        expected, cut = pixels[k].clone(), 0
        side = [int(np.sqrt(1 - share) * length) for length in size]
        low = [int(where * length) - part // 2 for where, length, part in zip((down, right), size, side, strict=True)]
        for row in range(size[0]):
            for column in range(size[1]):
                if low[0] <= row < low[0] + side[0] and low[1] <= column < low[1] + side[1]:
                    expected[:, row, column] = pixels[partner, :, row, column]
                    cut += 1
        assert partners[k] == partner
        assert torch.equal(images[k], expected)
        assert float(shares[k]) == pytest.approx(1 - cut / (size[0] * size[1]), abs=1e-7)
        met.add("clipped" if cut < side[0] * side[1] else "whole" if cut else "nothing")
    assert {"clipped", "whole"} <= met


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_beta_distributed(alpha):
    _, shares, _ = Mixup(alpha).draw(torch.arange(20_000), 0, 0)
    levels = np.linspace(0.01, 0.99, 99)  # nearer to 0 and 1 the rounding shows
    found = np.searchsorted(np.sort(shares.double().numpy()), levels) / 20_000
    assert np.abs(found - stats.beta(alpha, alpha).cdf(levels)).max() < 0.012  # Kolmogorov's 5 % level is 0.0096
    assert torch.equal(shares * 2**16, (shares * 2**16).round())


def test_partners_are_others_and_evenly_spread():
    samples, views = 11, 3000
    index = torch.arange(samples) * 17
    counts = torch.zeros(samples, samples)
    for view in range(views):
        partners, _, _ = Mixup().draw(index, 0, view)
        counts[torch.arange(samples), partners] += 1
    assert counts.diagonal().eq(0).all()
    assert (counts + 300 * torch.eye(samples)).sub(300).abs().max() < 75  # 4.5 standard deviations


def test_the_mixture_has_nothing_to_do_with_the_draws_of_what_is_mixed():
    index = torch.arange(4000)
    partners, shares, place = Mixup().draw(index, 0, 0)
    further = (partners - index) % 4000
    rows = torch.stack([further.float(), shares, *place, *uniform(index, 0, 0, 6)]).double().numpy()
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.065


def test_a_split_of_one_sample_is_mixed_with_itself():
    split = split_of(1)
    images, partners, _ = whole(split, Mixup(), 0, 0)
    assert partners.tolist() == [0]
    assert torch.equal(images, split.samples.values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixup(0), "augment.concentration must be a number > 0, got 0."),
        (lambda: CutMix(float("inf")), "augment.concentration must be a number > 0, got inf."),
        (lambda: CutMix("1"), "augment.concentration must be a number > 0, got '1'."),
        (
            lambda: CutMix(1.0, Mixup()),
            "augment.inner must be null or an augmentation of single images, got 'Mixup'. A mixture is of two images.",
        ),
    ],
)
def test_values_outside_their_rule_are_refused(make, message):
    with pytest.raises(ConfigError) as refusal:
        make()
    assert str(refusal.value) == message


# The teacher and the student see one mixture.


class Identity(torch.nn.Module):
    """'Logits' that are the pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


@pytest.mark.parametrize("mix", MIXES, ids=NAMES)
def test_batches_show_what_predict_showed_the_teacher(mix):
    split = split_of()
    stored = [predict(Identity(), split, CPU, mix, 3, view) for view in range(2)]
    seen = []

    def targets(positions, view, images):
        torch.testing.assert_close(images.flatten(1), stored[view][positions], rtol=0, atol=0)
        seen.extend(positions.tolist())
        return images.flatten(1)

    batches = Batches(split, 8, 1, CPU, mix, 3, 2, targets)
    for epoch in range(3):
        partners, _, _ = mix.draw(split.index, 3, epoch % 2)
        for batch in batches.epoch(epoch):
            own = torch.tensor(seen[-len(batch.inputs) :])
            assert torch.equal(batch.labels, split.labels[own])
            assert torch.equal(batch.mixture.partner_labels, split.labels[partners[own]])
    assert len(seen) == 90
    some = torch.tensor([4, 29, 0])
    torch.testing.assert_close(predict(Identity(), split, CPU, mix, 3, 1, some), stored[1][some], rtol=0, atol=0)


# The hard term.


def mean_over_mass(z, labels, partner_labels, share):
    """Σ λ·CE + (1 − λ)·CE' over the labelled parts, divided by their mass, and its gradient, in float64."""
    z = z.astype(np.float64)
    shifted = z - z.max(1, keepdims=True)
    log_q = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    total, mass, gradient = 0.0, 0.0, np.zeros_like(z)
    for k in range(len(z)):
        for label, part in ((labels[k], share[k]), (partner_labels[k], 1 - share[k])):
            if label != UNLABELLED:
                total, mass = total - part * log_q[k, label], mass + part
                gradient[k] += part * (np.exp(log_q[k]) - np.eye(z.shape[1])[label])
    return (total / mass, gradient / mass) if mass else (0.0, gradient)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3), st.integers(0, 2**16)), min_size=1, max_size=9))
def test_the_hard_term_of_a_mixture_is_the_mean_over_its_labelled_mass(rows):
    labels, partner_labels, parts = (torch.tensor(column) for column in zip(*rows, strict=True))
    share = parts / 2**16
    z = (torch.randn(len(rows), 4, generator=torch.Generator().manual_seed(0)) * 3).requires_grad_()
    loss = hard_loss(z, Batch(torch.zeros(len(rows), 1), labels, None, Mixture(partner_labels, share)))
    loss.backward()
    value, gradient = mean_over_mass(z.detach().numpy(), labels.numpy(), partner_labels.numpy(), share.numpy())
    assert loss.item() == pytest.approx(value, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(z.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 2, 1]), torch.tensor([0, -1, -1, 2])])
def test_a_mixture_with_itself_or_with_nothing_costs_what_the_plain_sample_does(labels):
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    plain = CrossEntropy()(Answer(z), Batch(torch.zeros(4, 1), labels))["loss"]
    for other, share in ((labels, torch.tensor([0.3, 0.0, 1.0, 0.5])), (labels.flip(0), torch.ones(4))):
        mixed = CrossEntropy()(Answer(z), Batch(torch.zeros(4, 1), labels, None, Mixture(other, share)))["loss"]
        torch.testing.assert_close(mixed, plain)
