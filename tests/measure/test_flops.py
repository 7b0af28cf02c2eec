import math
import subprocess
import sys

import pytest
import torch
from running import environment
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from kd_cli.data.spec import image_spec
from kd_cli.measure.flops import Convolution, work_of, work_on
from kd_cli.models.cnn import cnn
from kd_cli.models.mlp import mlp
from kd_cli.models.resnet import resnet

N, D = 5, 8  # rows and columns of what the networks below are shown: [1, 1, N, D]


class Of(nn.Module):
    """A network that is one function, of a matrix `[N, D]` and its weights."""

    def __init__(self, function, *shape: int) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(shape or (D, D)))

    def forward(self, image: Tensor) -> Tensor:
        return self.function(image[0, 0], self.weight)


class Layer(nn.Module):
    """A layer, shown the matrix as a batch of one sequence `[1, N, D]`, or `[1, D, N]` with the channels first."""

    def __init__(self, layer: nn.Module, channels_first: bool = False) -> None:
        super().__init__()
        self.layer, self.channels_first = layer, channels_first

    def forward(self, image: Tensor) -> Tensor:
        sequence = image[0]
        return self.layer(sequence.transpose(1, 2) if self.channels_first else sequence)


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x)[0]


def heads(x: Tensor, weight: Tensor) -> Tensor:
    split = x.view(1, N, 2, D // 2).transpose(1, 2)
    return F.scaled_dot_product_attention(split, split, split)


PROJECTIONS, SCORES = N * D * 4 * D, 2 * N * N * D  # of self-attention: four linear layers; scores and weighted values
PRODUCTS = {
    "linear": (Of(F.linear), N * D * D),
    "matmul": (Of(lambda x, w: x @ w), N * D * D),
    "einsum": (Of(lambda x, w: torch.einsum("nd,de->ne", x, w)), N * D * D),
    "einsum of batches": (Of(lambda x, w: torch.einsum("nd,hde->hne", x, w), 3, D, D), 3 * N * D * D),
    "tensordot": (Of(lambda x, w: torch.tensordot(x, w, 1)), N * D * D),
    "a vector": (Of(lambda x, w: x @ w, D), N * D),
    "vectors": (Of(lambda x, w: torch.dot(x[0], w), D), D),
    "addmm": (Of(lambda x, w: torch.addmm(x, x, w)), N * D * D),
    "addmm in place": (Of(lambda x, w: x.clone().addmm_(x, w)), N * D * D),
    "baddbmm": (Of(lambda x, w: torch.baddbmm(x[None], x[None], w[None])), N * D * D),
    "attention": (Of(heads), SCORES),
    "conv1d": (Layer(nn.Conv1d(D, 6, 3, padding=1), channels_first=True), N * 6 * D * 3),
    "grouped conv1d": (Layer(nn.Conv1d(D, D, 3, groups=D), channels_first=True), (N - 2) * D * 3),
    "functional conv1d": (Of(lambda x, w: F.conv1d(x.t()[None], w, stride=2), 6, D, 3), 2 * 6 * D * 3),
    "transposed conv1d": (Layer(nn.ConvTranspose1d(D, 6, 3, stride=2), channels_first=True), N * 6 * D * 3),
    "conv3d": (Of(lambda x, w: F.conv3d(x[None, None, None], w, padding=1), 4, 1, 3, 3, 3), N * D * 4 * 27),
    "dilated conv2d": (Of(lambda x, w: F.conv2d(x[None, None], w, dilation=2), 4, 1, 2, 2), (N - 2) * (D - 2) * 16),
    "MultiheadAttention": (Layer(SelfAttention(D, 2, batch_first=True)), PROJECTIONS + SCORES),
    "encoder": (
        Layer(nn.TransformerEncoder(nn.TransformerEncoderLayer(D, 2, 16, batch_first=True), 3)),
        3 * (PROJECTIONS + SCORES + 2 * N * D * 16),
    ),
    "LSTM": (Layer(nn.LSTM(D, 6, num_layers=2, batch_first=True)), N * 24 * (D + 6) + N * 24 * (6 + 6)),
    "GRU": (Layer(nn.GRU(D, 6, bidirectional=True, batch_first=True)), 2 * N * 18 * (D + 6)),
    "bilinear": (Of(lambda x, w: F.bilinear(x, x, w), 3, D, D), N * 3 * D * D),
    "nothing": (Of(lambda x, w: F.normalize(F.gelu(x)).cumsum(1).cummax(1)[0].softmax(1).to(torch.float64)), 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_are_counted_whatever_makes_them(kind):
    network, multiply_adds = PRODUCTS[kind]
    assert work_of(network, image_spec((1, N, D))).flops == 2 * multiply_adds


def test_what_no_gradient_could_ever_reach_is_counted_too():
    with torch.inference_mode():  # torch then dispatches operations whole
        network = nn.Sequential(nn.Flatten(), nn.Linear(N * D, 3))
        assert work_on(network, torch.zeros(1, 1, N, D)).flops == 2 * N * D * 3


@pytest.mark.parametrize(
    "made", [lambda: resnet(10, (1, 12, 12), depth=8), lambda: cnn(10, (1, 12, 12)), lambda: mlp(10, (1, 12, 12))]
)
def test_networks_have_the_operations_that_torch_counts(made):
    model = made()
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 1, 12, 12))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    work = work_of(model.train(), image_spec((1, 12, 12)))
    assert work.flops == counter.get_total_flops()
    assert work.of_step(4) == 12 * counter.get_total_flops()
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def refuse(x: Tensor, weight: Tensor) -> Tensor:
    raise ValueError("not today")


@pytest.mark.parametrize(
    "function",
    [
        refuse,
        lambda x, w: torch.fft.rfft(x).real @ w[:5],
        lambda x, w: torch.linalg.inv(w) @ x.t(),
        lambda x, w: torch.cdist(x, w),
        lambda x, w: torch.sparse.mm(w.to_sparse(), x.t()),
    ],
    ids=["refused", "fft", "inverse", "distances", "sparse"],
)
def test_what_is_unknown_counts_as_large(function):
    assert work_of(Of(function), image_spec((1, N, D))).flops == math.inf


def test_somebody_elses_operation_is_unknown():
    @torch.library.custom_op("kd_test::double", mutates_args=())
    def double(x: Tensor) -> Tensor:
        return 2 * x

    assert work_of(Of(lambda x, w: double(x) @ w), image_spec((1, N, D))).flops == math.inf


def test_the_convolutions_are_named_in_order():
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.Conv2d(6, 6, 1, stride=2, groups=3),
        nn.ConvTranspose2d(6, 4, 2, stride=(2, 1)),
    )
    expected = (
        Convolution(1, 1, (3, 3), (1, 1)), Convolution(6, 2, (1, 1), (2, 2)), Convolution(6, 6, (2, 2), (2, 1))
    )  # fmt: skip
    assert work_of(model, image_spec((1, N, D))).convolutions == expected


def test_counting_does_not_import_the_compiler():
    code = (
        "import sys, torch; from kd_cli.measure.flops import work_of; from kd_cli.data.spec import image_spec\n"
        "work_of(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), image_spec((1, 8, 8)))\n"
        "sys.exit(any(name in sys.modules for name in ('torch._dynamo', 'triton', 'sympy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0
