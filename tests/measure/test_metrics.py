import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from kd_cli.measure import gap, metrics


@pytest.fixture
def scored() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(200, 5, generator=generator) * 2, torch.randint(5, (200,), generator=generator)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def logits_of(probabilities: list[list[float]]) -> torch.Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log().float()


def test_errors_and_nll_agree_with_scikit_learn(scored):
    logits, labels = scored
    accuracy = accuracy_score(labels.numpy(), logits.argmax(1).numpy())
    assert metrics.errors(logits, labels) == round((1 - accuracy) * len(labels))
    expected = log_loss(labels.numpy(), softmax(logits.double().numpy()), labels=range(5))
    assert metrics.nll(logits, labels) == pytest.approx(expected, rel=1e-12)


def test_nll_of_an_impossible_label_is_large_and_finite():
    assert metrics.nll(torch.tensor([[0.0, 500.0]]), torch.tensor([0])) == pytest.approx(500)


def test_per_class_agrees_with_the_confusion_matrix(scored):
    logits, labels = scored
    table = confusion_matrix(labels.numpy(), logits.argmax(1).numpy(), labels=range(5))
    found = metrics.per_class(logits, labels, "abcde")
    assert list(found) == list("abcde")
    for k, name in enumerate("abcde"):
        assert found[name] == {"n": table[k].sum(), "errors": table[k].sum() - table[k, k]}


def test_per_class_counts_a_class_without_samples_as_zero():
    found = metrics.per_class(torch.eye(3)[:2], torch.tensor([0, 1]), "abc")
    assert found["c"] == {"n": 0, "errors": 0}


def test_ece_of_a_hand_made_case():
    # Two bins: (0, ½] holds one sample of confidence 0.4, (½, 1] four of confidence 0.8 of which two are right.
    logits = logits_of([[0.4, 0.35, 0.25], *[[0.8, 0.1, 0.1]] * 4])
    labels = torch.tensor([0, 0, 0, 1, 2])
    assert metrics.ece(logits, labels, bins=2) == pytest.approx((1 * abs(1 - 0.4) + 4 * abs(0.5 - 0.8)) / 5, abs=1e-6)


def test_a_confidence_at_an_edge_belongs_to_the_bin_below_it():
    # ½ is in (0, ½] with 0.4, not in (½, 1] with 0.9.
    logits = torch.cat([torch.zeros(1, 2), logits_of([[0.9, 0.1]])])
    assert metrics.ece(logits, torch.tensor([0, 1]), bins=2) == pytest.approx(
        (abs(1 - 0.5) + abs(0 - 0.9)) / 2, abs=1e-6
    )


def test_ece_agrees_with_a_loop_over_the_bins(scored):
    logits, labels = scored
    probabilities = softmax(logits.double().numpy())
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels.numpy()
    expected = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.ece(logits, labels) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("label", "expected"), [(0, 0.0), (1, 1.0)])
def test_ece_of_full_confidence(label, expected):
    assert metrics.ece(torch.tensor([[1000.0, 0.0]]), torch.tensor([label])) == pytest.approx(expected)


def test_agreement_counts_equal_predictions_not_right_ones():
    student, teacher = torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]
    assert metrics.agreement(student, teacher) == 0.5


def test_kl_to_teacher_is_the_mean_over_samples_with_the_teacher_first(scored):
    student, teacher = scored[0][:50], scored[0][50:100]
    p, q = softmax(teacher.double().numpy()), softmax(student.double().numpy())
    expected = (p * (np.log(p) - np.log(q))).sum(1).mean()
    assert metrics.kl_to_teacher(student, teacher) == pytest.approx(expected, rel=1e-12)
    assert metrics.kl_to_teacher(teacher, student) != pytest.approx(expected, rel=1e-3)
    assert metrics.kl_to_teacher(teacher, teacher) == 0


@pytest.mark.parametrize(
    ("teacher", "student", "baseline", "expected"),
    [
        ([67], [74], [146], 72 / 79),
        ([10, 20], [20, 30], [30, 60], 20 / 30),  # of the mean errors: not the mean of 1/2 and 3/4
        ([10], [5], [20], 1.5),
        ([10], [30], [20], -1.0),
        ([20], [10], [20], None),
        ([30], [10], [20], None),
    ],
)
def test_gap_recovered(teacher, student, baseline, expected):
    assert gap.gap_recovered(teacher, student, baseline) == (expected and pytest.approx(expected))


def test_gap_interval_is_that_of_the_paired_bootstrap():
    teacher, student, baseline = [60, 62, 70], [80, 75, 79], [100, 110, 104]
    every = sorted(
        gap.gap_recovered(*([x[k] for k in draw] for x in (teacher, student, baseline)))
        for draw in itertools.product(range(3), repeat=3)
    )  # all 27 resamples, equally likely: 2.5 % of them is less than one, so both ends are the extremes
    assert gap.gap_interval(teacher, student, baseline) == pytest.approx((every[0], every[-1]))


def test_gap_interval_of_equal_seeds_is_a_point():
    assert gap.gap_interval([10, 10], [15, 15], [30, 30]) == pytest.approx((0.75, 0.75))


def test_gap_interval_draws_the_three_models_of_a_seed_together():
    # Paired, the ratio is ½ in every resample; drawn apart it would scatter.
    low, high = gap.gap_interval([10, 110, 210], [20, 120, 220], [30, 130, 230])
    assert math.isclose(low, 0.5)
    assert math.isclose(high, 0.5)


@pytest.mark.parametrize(
    ("teacher", "student", "baseline"),
    [([10], [15], [20]), ([10, 30], [15, 15], [20, 20])],
    ids=["one seed", "a resample without a gap"],
)
def test_gap_interval_is_none_where_it_means_nothing(teacher, student, baseline):
    assert gap.gap_interval(teacher, student, baseline) is None
