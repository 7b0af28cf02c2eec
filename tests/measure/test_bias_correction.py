"""The shift that meets a prior, the one that errs least, and which parameter shifts the logits."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.optimize import root
from scipy.special import softmax
from torch import Tensor, nn

from kd_cli.errors import TrainingError
from kd_cli.measure.bias_correction import TOLERANCE, best_shift, output_bias, prior_shift
from kd_cli.models.cnn import cnn
from kd_cli.models.mlp import mlp
from kd_cli.models.resnet import resnet
from kd_cli.models.wrn import wrn


def drawn(rows: int, classes: int, scale: float = 4.0) -> tuple[Tensor, Tensor]:
    """Logits that favour the first classes, and a prior that does not."""
    generator = torch.Generator().manual_seed(classes)
    logits = scale * torch.randn(rows, classes, generator=generator) - torch.arange(classes)
    prior = 0.5 + torch.rand(classes, generator=generator, dtype=torch.float64)
    return logits, prior / prior.sum()


@pytest.mark.parametrize(("rows", "classes"), [(200, 2), (500, 10), (20_000, 10), (300, 40)])
def test_the_mean_softmax_of_the_shifted_logits_is_the_prior(rows: int, classes: int) -> None:
    logits, prior = drawn(rows, classes)
    shift = prior_shift(logits, prior)
    assert (shift.dtype, shift.shape) == (torch.float64, (classes,))
    assert abs(float(shift.mean())) < 1e-12
    mean = softmax(logits.double().numpy() + shift.numpy(), axis=1).mean(0)
    assert abs(mean - prior.numpy()).max() <= TOLERANCE
    assert abs(softmax(logits.double().numpy(), axis=1).mean(0) - prior.numpy()).max() > 0.02, "it had something to do"


def test_it_is_what_another_solver_of_the_equations_finds() -> None:
    logits, prior = drawn(500, 5)
    wide = logits.double().numpy()

    def equations(free):  # type: ignore[no-untyped-def]
        shift = [*free, 0.0]  # one class is fixed: the shift is unique up to a constant
        return (softmax(wide + shift, axis=1).mean(0) - prior.numpy())[:-1]

    solved = root(equations, [0.0] * 4, tol=1e-12)
    assert solved.success
    expected = torch.tensor([*solved.x, 0.0], dtype=torch.float64)
    torch.testing.assert_close(prior_shift(logits, prior), expected - expected.mean(), atol=1e-4, rtol=0)


def test_equal_rows_have_a_known_answer() -> None:
    """Where every row predicts p, the shift is log(prior / p) but for a constant."""
    row, prior = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    expected = torch.tensor([math.log(0.2 / 0.7), math.log(0.3 / 0.2), math.log(0.5 / 0.1)], dtype=torch.float64)
    shift = prior_shift(row.repeat(50, 1) + torch.arange(50.0)[:, None], prior)
    torch.testing.assert_close(shift, expected - expected.mean(), atol=1e-4, rtol=0)


def test_the_prior_that_is_met_already_needs_no_shift() -> None:
    logits, _ = drawn(400, 6)
    shift = prior_shift(logits, logits.double().softmax(1).mean(0))
    assert shift.abs().max() < 1e-6


def test_a_class_that_is_never_predicted_comes_back() -> None:
    logits, prior = drawn(2000, 10)
    logits[:, 3] -= 40
    shift = prior_shift(logits, prior)
    assert shift[3] > 30
    assert float((logits + shift).softmax(1)[:, 3].mean()) == pytest.approx(float(prior[3]), abs=1e-6)


def test_confident_logits() -> None:
    logits, prior = drawn(2000, 10, scale=60)
    mean = (logits.double() + prior_shift(logits, prior)).softmax(1).mean(0)
    torch.testing.assert_close(mean, prior, atol=TOLERANCE, rtol=0)


def test_logits_that_no_step_moves_are_refused() -> None:
    logits = torch.tensor([[1e12, 0.0]]).repeat(10, 1)
    with pytest.raises(
        TrainingError, match=r"^bias_correction=prior found no output bias .* Set bias_correction=null\.$"
    ):
        prior_shift(logits, torch.tensor([0.5, 0.5], dtype=torch.float64))


def errors_with(logits: Tensor, labels: Tensor, shift: Tensor) -> int:
    return int(((logits.double() + shift).argmax(1) != labels).sum())


@pytest.mark.parametrize("classes", [[3], [0, 4], [1, 2, 3, 4]])
def test_no_shift_on_a_fine_grid_errs_less_than_the_best(classes: list[int]) -> None:
    generator = torch.Generator().manual_seed(len(classes))
    labels = torch.randint(0, 5, (300,), generator=generator)
    logits = torch.randn(300, 5, generator=generator) + 2 * nn.functional.one_hot(labels, 5)
    logits[:, classes] -= 3
    best = best_shift(logits, labels, classes)
    assert best.unique().tolist() == sorted({0.0, float(best[classes[0]])})
    assert best.nonzero()[:, 0].tolist() == classes
    grid = [
        torch.zeros(5, dtype=torch.float64).index_fill_(0, torch.tensor(classes), k / 200) for k in range(-2000, 2001)
    ]
    fewest = min(errors_with(logits, labels, shift) for shift in grid)
    assert errors_with(logits, labels, best) <= fewest < errors_with(logits, labels, torch.zeros(5))


def test_the_best_shift_is_in_the_middle_of_the_widest_interval() -> None:
    # class 1 leads by −1, −2 and −5: right from the second and third on, wrong for the first
    logits = torch.tensor([[0.0, -1.0], [0.0, -2.0], [0.0, -5.0]])
    assert best_shift(logits, torch.tensor([1, 1, 0]), [1]).tolist() == [0.0, 3.5]
    assert best_shift(logits, torch.tensor([0, 0, 0]), [1]).tolist() == [0.0, 0.0]
    assert best_shift(logits, torch.tensor([1, 1, 1]), [1]).tolist() == [0.0, 6.0]


def test_equal_distances_are_passed_at_once() -> None:
    logits = torch.tensor([[0.0, -1.0]] * 3)
    assert best_shift(logits, torch.tensor([1, 0, 1]), [1]).tolist() == [0.0, 2.0]
    assert best_shift(logits[:2], torch.tensor([1, 0]), [1]).tolist() == [0.0, 0.0], "no shift parts equal rows"


class Scaled(nn.Module):
    """Its bias is not the output's: it is scaled after it was added."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return 0.5 * self.layer(images.flatten(1))


class Backwards(nn.Module):
    """Two candidates, the last registered is not the one at the output."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(10, 10), nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images.flatten(1)).relu())


def last_linear(network: nn.Module) -> Tensor:
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1].bias


@pytest.mark.parametrize("build", [mlp, cnn, resnet, wrn])
def test_the_output_bias_is_that_of_the_last_layer(build: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    network = build(10, (1, 8, 8)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert output_bias(network, torch.zeros(2, 1, 8, 8), 10) is last_linear(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_layer_of_as_many_units_as_classes_is_not_taken_for_the_output() -> None:
    torch.manual_seed(0)
    network = mlp(10, (1, 8, 8), widths=[10, 10])
    assert output_bias(network, torch.zeros(2, 1, 8, 8), 10) is last_linear(network)
    backwards = Backwards()
    assert output_bias(backwards, torch.zeros(2, 1, 8, 8), 10) is backwards.head.bias


@pytest.mark.parametrize("network", [Scaled(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))])
def test_a_network_without_an_output_bias(network: nn.Module) -> None:
    assert output_bias(network, torch.zeros(2, 1, 8, 8), 10) is None
