"""The combined answer against slow references in float64, against closed forms, and against what makes it optimal."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from kd_cli.teachers.specialists import solver
from kd_cli.teachers.specialists.solver import combine

Case = tuple[Tensor, Tensor, Tensor, Tensor]


def drawn(
    cases: int, classes: int, specialists: int, each: int, spread: float, share: float = 1, seed: int = 0
) -> Case:
    """Random opinions: log-probabilities with logits of this spread, overlapping sets, and who is active."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return spread * torch.randn(*shape, generator=draw, dtype=torch.float64)

    generalist = normal(cases, classes).log_softmax(1)
    said = normal(cases, specialists, each + 1).log_softmax(2)
    sets = torch.stack([torch.randperm(classes, generator=draw)[:each] for _ in range(specialists)])
    return generalist, said, sets, torch.rand(cases, specialists, generator=draw) < share


def divergence(q: np.ndarray, case: Case, row: int) -> float:
    """KL(p_g ‖ q) + Σ KL(p_m ‖ q) of one case, as the paper has it in equation 5."""
    generalist, said, sets, active = (part.numpy() for part in case)
    p = np.exp(generalist[row])
    total = float((p * (np.log(p) - np.log(q))).sum())
    for m in np.flatnonzero(active[row]):
        p = np.exp(said[row, m])
        outside = np.setdiff1d(np.arange(len(q)), sets[m])
        seen = np.append(q[sets[m]], q[outside].sum())
        total += float((p * (np.log(p) - np.log(seen))).sum())
    return total


def slow(case: Case, row: int) -> np.ndarray:
    """The minimiser by L-BFGS on the logits of q, as the paper parametrises it, from several starts."""

    def q_of(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max())
        return e / e.sum()

    def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
        generalist, said, sets, active = (part.numpy() for part in case)
        q = q_of(z)
        gradient = q - np.exp(generalist[row])  # of −Σ p log q with respect to z
        for m in np.flatnonzero(active[row]):
            p, outside = np.exp(said[row, m]), np.setdiff1d(np.arange(len(q)), sets[m])
            share = np.zeros_like(q)
            share[sets[m]] = p[:-1]
            share[outside] = p[-1] * q[outside] / q[outside].sum()
            gradient += q - share
        return divergence(q, case, row), gradient

    options = {"maxiter": 10_000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-10}
    starts = (np.zeros(case[0].shape[1]), case[0][row].numpy())
    found = [minimize(objective, start, jac=True, method="L-BFGS-B", options=options) for start in starts]
    return q_of(min(found, key=lambda each: each.fun).x)


@pytest.mark.parametrize("spread", [0.5, 2, 5])
@pytest.mark.parametrize(("classes", "specialists", "each"), [(6, 1, 2), (10, 3, 4), (12, 5, 5), (8, 4, 3)])
def test_it_is_what_descent_on_the_logits_finds(classes: int, specialists: int, each: int, spread: float) -> None:
    case = drawn(4, classes, specialists, each, spread, share=0.8)
    found = combine(*case).exp()
    for row in range(4):
        expected = slow(case, row)
        assert found[row].numpy() == pytest.approx(expected, abs=2e-5)
        # descent stops short of the minimum, so that the exact answer may only be better
        assert divergence(found[row].numpy(), case, row) <= divergence(expected, case, row) + 1e-12


@pytest.mark.parametrize("spread", [1, 5, 20])
@pytest.mark.parametrize("share", [1, 0.5])
def test_every_case_fulfils_the_optimality_conditions(spread: float, share: float) -> None:
    """Stationarity of the Lagrangian in q: p_g + Σ (p_m inside, d_m q / Q_m outside) = (1 + M) q, for each class."""
    case = drawn(3000, 20, 6, 5, spread, share)
    generalist, said, sets, active = case
    q = combine(*case).exp()
    right = generalist.exp()
    for m, classes in enumerate(sets):
        outside = torch.ones(20, dtype=torch.bool)
        outside[classes] = False
        opinion = torch.zeros_like(q)
        opinion[:, classes] = said[:, m, :-1].exp()
        opinion[:, outside] = said[:, m, -1:].exp() * q[:, outside] / q[:, outside].sum(1, keepdim=True)
        right = right + opinion * active[:, m, None]
    assert torch.allclose(q.sum(1), torch.ones(len(q), dtype=torch.float64), rtol=0, atol=1e-12)
    assert (right - (1 + active.sum(1, keepdim=True)) * q).abs().max() < 1e-9


def test_without_active_specialists_it_is_the_generalists_answer() -> None:
    generalist, said, sets, active = drawn(50, 10, 3, 4, 3)
    assert torch.allclose(combine(generalist, said, sets, active & False), generalist, rtol=0, atol=1e-12)


def test_several_full_models_give_their_arithmetic_mean() -> None:
    """Section 5.3: so it is where all models cover all classes; their dustbins are empty."""
    generalist, said, _, active = drawn(50, 10, 3, 9, 3)
    sets = torch.arange(10).expand(3, 10)
    full = torch.cat([said, torch.full((50, 3, 1), -torch.inf)], 2)
    mean = (generalist.exp() + said.exp().sum(1)) / 4
    assert torch.allclose(combine(generalist, full, sets, active).exp(), mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spread", [1, 10, 40])
def test_a_single_specialist_has_a_closed_form(spread: float) -> None:
    """Inside: the mean of both. Outside: as the generalist has it, scaled to the mean of the masses."""
    generalist, said, sets, active = drawn(200, 10, 1, 4, spread)
    inside, outside = sets[0], torch.tensor([k for k in range(10) if k not in sets[0]])
    expected = torch.empty_like(generalist)
    p, s = generalist.exp(), said[:, 0].exp()
    p[:, outside] = torch.maximum(p[:, outside], solver.FLOOR * s[:, -1:])
    expected[:, inside] = (p[:, inside] + s[:, :-1]) / 2
    mass = p[:, outside].sum(1, keepdim=True)
    expected[:, outside] = p[:, outside] / mass * (mass + s[:, -1:]) / 2
    found = combine(generalist, said, sets, active)
    assert torch.allclose(found.exp(), expected, rtol=1e-9, atol=1e-12)
    assert found.isfinite().all()


def test_the_cases_are_independent_of_each_other_and_of_their_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generalist, said, sets, active = drawn(40, 12, 4, 4, 4, share=0.6)
    together = combine(generalist, said, sets, active)
    monkeypatch.setattr(solver, "BLOCK", 7)
    assert torch.allclose(combine(generalist, said, sets, active), together, rtol=0, atol=1e-8)
    alone = torch.cat([combine(generalist[k : k + 1], said[k : k + 1], sets, active[k : k + 1]) for k in range(40)])
    assert torch.allclose(alone, together, rtol=0, atol=1e-8)


def test_it_ends_with_numbers_where_opinions_are_certain_and_contradict_each_other() -> None:
    for seed in range(5):
        case = drawn(300, 10, 4, 4, 200, seed=seed)
        found = combine(*(part.float() if part.is_floating_point() else part for part in case))
        assert found.isfinite().all()
        assert torch.allclose(found.exp().sum(1), torch.ones(300, dtype=torch.float64))


def test_a_case_that_is_no_number_stays_one_and_harms_no_other() -> None:
    generalist, said, sets, active = drawn(5, 10, 3, 4, 3)
    clean = combine(generalist, said, sets, active)
    generalist[2] = torch.nan
    found = combine(generalist, said, sets, active)
    assert found[2].isnan().all()
    others = [0, 1, 3, 4]
    assert torch.equal(found[others], clean[others])
