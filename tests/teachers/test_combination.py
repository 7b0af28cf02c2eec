"""The combining rules against their definitions in float64 numpy."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from kd_cli.teachers.combination import Combination

WEIGHTS = (0.5, 0.2, 0.3)
LOGITS = np.random.default_rng(0).normal(scale=6, size=(3, 17, 7))
TEMPERATURES = (0.5, 1.0, 4.0, 20.0)


def combined(rule: str, temperature: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return Combination(rule, WEIGHTS)([torch.tensor(v, dtype=dtype) for v in LOGITS], temperature)


def mean_of(probabilities: np.ndarray, rule: str) -> np.ndarray:
    if rule == "arithmetic":
        return np.average(probabilities, axis=0, weights=WEIGHTS)
    product = np.prod(probabilities ** np.array(WEIGHTS)[:, None, None], axis=0)
    return product / product.sum(1, keepdims=True)


@pytest.mark.parametrize("rule", ["arithmetic", "geometric"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_soft_targets_are_the_mean_of_the_softened_probabilities(rule: str, temperature: float) -> None:
    expected = mean_of(softmax(LOGITS / temperature, axis=2), rule)
    found = softmax(combined(rule, temperature).numpy() / temperature, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    single = combined(rule, temperature, torch.float32)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(softmax(single.double().numpy() / temperature, axis=1), expected, atol=1e-6)


def test_the_geometric_mean_is_the_mean_of_the_logits_at_every_temperature() -> None:
    expected = np.average(LOGITS, axis=0, weights=WEIGHTS)
    for temperature in TEMPERATURES:
        np.testing.assert_allclose(combined("geometric", temperature).numpy(), expected, rtol=1e-12)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * np.log(p / q)).sum())


@pytest.mark.parametrize("rule", ["arithmetic", "geometric"])
def test_each_mean_minimises_its_divergence(rule: str) -> None:
    members = softmax(LOGITS[:, 0] / 4, axis=1)
    best = softmax(combined(rule, 4)[0].numpy() / 4)

    def cost(q: np.ndarray) -> float:
        pairs = [(p, q) if rule == "arithmetic" else (q, p) for p in members]
        return sum(w * divergence(*pair) for w, pair in zip(WEIGHTS, pairs, strict=True))

    draw = np.random.default_rng(1)
    for _ in range(50):
        assert cost(best) < cost(softmax(np.log(best) + draw.normal(scale=0.05, size=7)))


@pytest.mark.parametrize("rule", ["arithmetic", "geometric"])
def test_confident_members_stay_finite_and_one_member_stays_what_it_is(rule: str) -> None:
    confident = [torch.tensor([[0.0, -6e4, -6e4]]), torch.tensor([[-6e4, 0.0, -6e4]])]
    assert Combination(rule, (0.5, 0.5))(confident, 1.0).softmax(1).tolist() == [[0.5, 0.5, 0.0]]
    alone = Combination(rule, (1.0,))(confident[:1], 3.0)
    assert (alone / 3).softmax(1).tolist() == [[1.0, 0.0, 0.0]]


def test_the_identity_holds_the_temperature_where_the_result_depends_on_it() -> None:
    arithmetic, geometric = (Combination(rule, WEIGHTS) for rule in ("arithmetic", "geometric"))
    assert arithmetic.identity(4.0) != arithmetic.identity(5.0)
    assert geometric.identity(4.0) == geometric.identity(5.0)
    assert geometric.identity(4.0) != Combination("geometric", (0.2, 0.5, 0.3)).identity(4.0)
