import numpy as np
import pytest
import torch
from torch import Tensor

from kd_cli.data.samples import Answer, Batch
from kd_cli.errors import ConfigError
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hard_teacher import HardTeacher
from kd_cli.objectives.hinton import Hinton, soft_loss
from kd_cli.objectives.logit_matching import LogitMatching, matching_loss

N, CLASSES = 12, 5


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def reference(
    z: np.ndarray, v: np.ndarray, labels: np.ndarray, temperature: float, soft_weight: float, hard_weight: float
) -> tuple[float, np.ndarray]:
    """The loss of design.md and its gradient with respect to z, from the formula, in float64."""
    z, v = z.astype(np.float64), v.astype(np.float64)
    n = len(z)
    log_q, log_p = log_softmax(z / temperature), log_softmax(v / temperature)
    p = np.exp(log_p)
    soft = temperature**2 * (p * (log_p - log_q)).sum() / n
    gradient = soft_weight * temperature * (np.exp(log_q) - p) / n  # T² · (q − p) / T, mean over samples
    known = labels >= 0
    hard = 0.0
    if known.any():
        log_one = log_softmax(z)
        hard = -log_one[known, labels[known]].sum() / known.sum()
        one_hot = np.eye(z.shape[1])[labels * known] * known[:, None]
        gradient = gradient + hard_weight * (np.exp(log_one) * known[:, None] - one_hot) / known.sum()
    return soft_weight * soft + hard_weight * hard, gradient


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, CLASSES, generator=generator) * 3, torch.randn(N, CLASSES, generator=generator) * 3


def batch_of(v: Tensor | None, labels: Tensor) -> Batch:
    return Batch(torch.zeros(len(labels), 1, 2, 2), labels, None if v is None else Answer(v))


ALL = torch.arange(N) % CLASSES
SOME = torch.where(torch.arange(N) % 3 == 0, ALL, -1)
NONE = torch.full((N,), -1)


@pytest.mark.parametrize("labels", [ALL, SOME, NONE], ids=["all labels", "some labels", "no labels"])
@pytest.mark.parametrize(
    ("temperature", "soft_weight", "hard_weight"),
    [(1.0, 1.0, 0.0), (4.0, 0.9, 0.1), (20.0, 0.7, 0.3), (0.5, 0.5, 2.0), (3, 0, 1)],
)
def test_value_and_gradient_are_those_of_the_formula(logits, labels, temperature, soft_weight, hard_weight):
    z, v = logits
    z.requires_grad_()
    terms = Hinton(temperature, soft_weight, hard_weight)(Answer(z), batch_of(v, labels))
    terms["loss"].backward()
    loss, gradient = reference(z.detach().numpy(), v.numpy(), labels.numpy(), temperature, soft_weight, hard_weight)
    assert terms["loss"].item() == pytest.approx(loss, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(z.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)


def test_terms_are_unweighted_and_loss_is_their_weighted_sum(logits):
    z, v = logits
    terms = Hinton(4.0, 0.9, 0.2)(Answer(z), batch_of(v, SOME))
    assert set(terms) == {"loss", "soft", "hard"}
    soft, _ = reference(z.numpy(), v.numpy(), SOME.numpy(), 4.0, 1, 0)
    hard, _ = reference(z.numpy(), v.numpy(), SOME.numpy(), 4.0, 0, 1)
    assert float(terms["soft"]) == pytest.approx(soft, rel=1e-5)
    assert float(terms["hard"]) == pytest.approx(hard, rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(0.9 * soft + 0.2 * hard, rel=1e-5)


def test_the_temperature_squared_holds_when_either_weight_is_zero(logits):
    z, v = logits
    both = Hinton(5.0, 1.0, 1.0)(Answer(z), batch_of(v, ALL))
    assert float(Hinton(5.0, 1.0, 0.0)(Answer(z), batch_of(v, ALL))["loss"]) == pytest.approx(float(both["soft"]))
    assert float(Hinton(5.0, 0.0, 1.0)(Answer(z), batch_of(v, ALL))["loss"]) == pytest.approx(float(both["hard"]))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_a_student_that_equals_its_teacher_has_no_loss_and_no_gradient(logits, temperature):
    z = logits[0].requires_grad_()
    terms = Hinton(temperature, 1.0, 0.0)(Answer(z), batch_of(z.detach().clone(), NONE))
    terms["loss"].backward()
    assert terms["loss"].item() == pytest.approx(0, abs=1e-6)
    assert z.grad.abs().max() < 1e-6


def test_the_soft_term_ignores_a_constant_added_to_all_logits_of_a_sample(logits):
    z, v = logits
    soft = [Hinton(4.0, 1.0, 0.0)(Answer(z), batch_of(teacher, NONE))["soft"] for teacher in (v, v - 17.0)]
    assert float(soft[0]) == pytest.approx(float(soft[1]), rel=1e-5)


def test_at_high_temperature_the_gradient_is_that_of_matching_logits(logits):
    z, v = (x - x.mean(1, keepdim=True) for x in logits)
    z.requires_grad_()
    Hinton(2000.0, 1.0, 0.0)(Answer(z), batch_of(v, NONE))["loss"].backward()
    # (z − v) / classes for each sample (Hinton et al. 2015, equation 4 times T²), and the mean over samples
    torch.testing.assert_close(z.grad, (z.detach() - v) / CLASSES / N, rtol=5e-3, atol=1e-4)


def test_the_size_of_the_soft_gradient_does_not_vanish_with_temperature(logits):
    z, v = logits
    sizes = {}
    for temperature in (4.0, 40.0):
        leaf = z.clone().requires_grad_()
        Hinton(temperature, 1.0, 0.0)(Answer(leaf), batch_of(v, NONE))["loss"].backward()
        sizes[temperature] = float(leaf.grad.norm())
    assert 0.3 < sizes[40.0] / sizes[4.0] < 3  # without T² it would be about 1/100


def test_the_loss_changes_with_the_teacher(logits):
    z, v = logits
    z.requires_grad_()
    losses = [Hinton(4.0, 1.0, 0.0)(Answer(z), batch_of(teacher, NONE))["loss"] for teacher in (v, v.flip(1))]
    assert losses[0].item() != pytest.approx(losses[1].item(), rel=1e-2)


def test_teacher_and_student_are_not_swapped():
    z, v = torch.tensor([[0.0, 0.0]]), torch.tensor([[8.0, 0.0]])
    soft = float(Hinton(1.0, 1.0, 0.0)(Answer(z), batch_of(v, torch.tensor([-1])))["soft"])
    assert soft == pytest.approx(np.log(2), abs=0.01)  # KL(one-hot ‖ even); the other way round it is 3.3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_with_in_float32(logits, dtype):
    z, v = (x.to(dtype) for x in logits)
    terms = Hinton(3.0, 1.0, 1.0)(Answer(z), batch_of(v, ALL))
    loss, _ = reference(z.float().numpy(), v.float().numpy(), ALL.numpy(), 3.0, 1, 1)
    assert all(term.dtype == torch.float32 for term in terms.values())
    assert float(terms["loss"]) == pytest.approx(loss, rel=1e-6)


def test_confident_logits_give_a_finite_loss_that_is_not_negative():
    z, v = torch.tensor([[0.0, 300.0]]), torch.tensor([[300.0, 0.0]])
    soft = Hinton(1.0, 1.0, 0.0)(Answer(z), batch_of(v, torch.tensor([-1])))["soft"]
    assert float(soft) == pytest.approx(300)


@pytest.mark.parametrize("labels", [ALL, SOME, NONE], ids=["all labels", "some labels", "no labels"])
def test_cross_entropy_is_the_mean_over_the_labelled_samples(logits, labels):
    z = logits[0].requires_grad_()
    loss = CrossEntropy()(Answer(z), batch_of(None, labels))["loss"]
    loss.backward()
    expected, gradient = reference(z.detach().numpy(), z.detach().numpy(), labels.numpy(), 1.0, 0, 1)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(z.grad.numpy(), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0), "temperature must be a number > 0, got 0."),
        ((float("inf"), 1, 0), "temperature must be a number > 0, got inf."),
        ((float("nan"), 1, 0), "temperature must be a number > 0, got nan."),
        ((4, -0.1, 1), "soft_weight must be a number ≥ 0, got -0.1."),
        ((4, 1, float("nan")), "hard_weight must be a number ≥ 0, got nan."),
        (
            (4, 0, 0),
            "soft_weight or hard_weight must be > 0, got 0. With both zero there is nothing to learn from.",
        ),
    ],
)
def test_values_outside_their_rule_are_refused(arguments, message):
    with pytest.raises(ConfigError) as refusal:
        Hinton(*arguments)
    assert str(refusal.value) == message


# --- other objectives on the teacher's logits


def hard_reference(z: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    loss, gradient = reference(z, z, labels, 1.0, 0.0, 1.0)
    return loss, gradient


@pytest.mark.parametrize("labels", [ALL, SOME, NONE], ids=["all labels", "some labels", "no labels"])
def test_logit_matching_is_half_the_mean_square_of_centred_differences(logits, labels):
    z, v = logits
    z.requires_grad_()
    terms = LogitMatching(0.7, 0.3)(Answer(z), batch_of(v + 5.0, labels))  # a row's mean means nothing
    terms["loss"].backward()
    a, b = z.detach().double().numpy(), v.double().numpy()
    difference = (a - a.mean(1, keepdims=True)) - (b - b.mean(1, keepdims=True))
    hard, hard_gradient = hard_reference(a, labels.numpy())
    assert terms["soft"].item() == pytest.approx((difference**2).mean() / 2, rel=1e-5)
    assert terms["loss"].item() == pytest.approx(0.7 * (difference**2).mean() / 2 + 0.3 * hard, rel=1e-5)
    gradient = 0.7 * difference / difference.size + 0.3 * hard_gradient
    np.testing.assert_allclose(z.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)


def test_the_teachers_answer_as_a_hard_label(logits):
    z, v = logits
    z.requires_grad_()
    terms = HardTeacher(0.7, 0.3)(Answer(z), batch_of(v, SOME))
    terms["loss"].backward()
    numbers = z.detach().double().numpy()
    soft, soft_gradient = hard_reference(numbers, v.argmax(1).numpy())
    hard, hard_gradient = hard_reference(numbers, SOME.numpy())
    assert terms["loss"].item() == pytest.approx(0.7 * soft + 0.3 * hard, rel=1e-5)
    np.testing.assert_allclose(z.grad.numpy(), 0.7 * soft_gradient + 0.3 * hard_gradient, rtol=1e-4, atol=1e-6)


def gradient_of(loss, z: Tensor, v: Tensor, *more: float) -> Tensor:
    z = z.double().requires_grad_()
    loss(z, v.double(), *more).backward()
    return z.grad.double()


def test_distillation_at_a_high_temperature_tends_to_logit_matching(logits):
    z, v = logits
    limit = gradient_of(matching_loss, z, v)
    away = []
    for temperature in (1, 10, 100, 1000):
        gradient = gradient_of(soft_loss, z, v, temperature)
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), limit.flatten(), dim=0)
        away.append(1 - float(cosine))
    assert away == sorted(away, reverse=True)
    assert away[0] > 0.05
    assert away[2] < 1e-3
    torch.testing.assert_close(gradient_of(soft_loss, z, v, 1000), limit, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("objective", [LogitMatching, HardTeacher])
def test_weights_of_other_objectives_are_checked(objective):
    with pytest.raises(ConfigError, match="soft_weight must be a number ≥ 0, got -1"):
        objective(-1.0, 0.5)
    with pytest.raises(ConfigError, match="With both zero there is nothing to learn from"):
        objective(0.0, 0.0)
