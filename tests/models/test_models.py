import pytest
import torch
from published import parameters
from torch import nn

from kd_cli.errors import ConfigError
from kd_cli.models.cnn import cnn
from kd_cli.models.mlp import mlp
from kd_cli.models.normalise import Normalise
from kd_cli.models.pretrained import torchvision
from kd_cli.models.resnet import resnet
from kd_cli.models.wrn import wrn

CIFAR = (3, 32, 32)
SHAPES = [(1, 8, 8), (1, 28, 28), CIFAR]
SMALLEST = {
    "mlp": (mlp, {"widths": [12], "dropout": 0.5, "input_dropout": 0.2}),
    "cnn": (cnn, {"channels": [4, 8], "widths": [12], "dropout": 0.5}),
    "resnet": (resnet, {"depth": 8}),
    "wrn": (wrn, {"depth": 10, "width": 1, "dropout": 0.3}),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("family", SMALLEST)
def test_logits_have_a_row_an_image_and_a_column_a_class(family, shape):
    make, arguments = SMALLEST[family]
    logits = make(7, shape, **arguments)(torch.rand(3, *shape))
    assert (logits.shape, logits.dtype) == ((3, 7), torch.float32)
    assert logits.isfinite().all()


@pytest.mark.parametrize("family", SMALLEST)
def test_a_seed_fixes_the_initial_weights(family):
    make, arguments = SMALLEST[family]
    weights = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        weights.append(nn.utils.parameters_to_vector(make(4, CIFAR, **arguments).parameters()))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("family", SMALLEST)
def test_every_parameter_learns(family):
    make, arguments = SMALLEST[family]
    model = make(4, CIFAR, **arguments)
    model(torch.rand(16, *CIFAR)).logsumexp(1).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def residual_parameters(depth: int, widths: tuple[int, int, int, int], classes: int) -> int:
    """By hand: 3×3 convolutions without bias, two numbers a channel of batch norm, 1×1 projections where the width or
    the size changes, one linear layer."""
    total = 3 * widths[0] * 9 + 2 * widths[0]
    for stage in range(3):
        inputs, outputs = widths[stage], widths[stage + 1]
        for block in range((depth - 2) // 6):
            first = inputs if block == 0 else outputs
            total += first * outputs * 9 + outputs * outputs * 9 + 4 * outputs
            if block == 0 and (stage or inputs != outputs):
                total += inputs * outputs + 2 * outputs
    return total + widths[3] * classes + classes


@pytest.mark.parametrize(
    ("depth", "widths", "classes", "published"),
    [
        (20, (16, 16, 32, 64), 10, 0.27e6),
        (56, (16, 16, 32, 64), 10, 0.85e6),
        (8, (32, 64, 128, 256), 100, 1.23e6),
        (32, (32, 64, 128, 256), 100, 7.43e6),
    ],
)
def test_residual_networks_have_the_published_size(depth, widths, classes, published):
    count = parameters(resnet(classes, CIFAR, depth=depth, widths=widths))
    assert count == residual_parameters(depth, widths, classes)
    assert count == pytest.approx(published, rel=0.02)


def test_resnet20_with_projections_has_272_474_parameters_on_cifar10():
    assert parameters(resnet(10, CIFAR, depth=20)) == 272_474


@pytest.mark.parametrize(("depth", "width", "published"), [(16, 2, 0.70e6), (40, 1, 0.57e6), (40, 2, 2.26e6)], ids=str)
def test_wide_residual_networks_have_the_published_size_on_cifar100(depth, width, published):
    assert parameters(wrn(100, CIFAR, depth=depth, width=width)) == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(
    ("widths", "expected"),
    [([800, 800], 1_276_810), ([1200, 1200], 2_395_210), ([], 7_850), ([30], 784 * 30 + 30 + 310)],
    ids=str,
)
def test_multi_layer_perceptrons_on_mnist_have_the_size_worked_out_by_hand(widths, expected):
    assert parameters(mlp(10, (1, 28, 28), widths=widths)) == expected


def test_the_cnn_on_mnist_has_the_size_worked_out_by_hand():
    expected = (9 * 16 + 16) + (16 * 9 * 32 + 32) + (7 * 7 * 32 * 64 + 64) + (64 * 10 + 10)
    assert parameters(cnn(10, (1, 28, 28), channels=[16, 32], widths=[64])) == expected


@pytest.mark.parametrize(("depth", "convolutions"), [(8, 7), (20, 19), (32, 31)])
def test_the_depth_of_a_residual_network_counts_its_layers(depth, convolutions):
    model = resnet(10, CIFAR, depth=depth)
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in model.modules()) == convolutions


@pytest.mark.parametrize("family", SMALLEST)
def test_normalisation_is_part_of_the_model_and_of_its_state_but_not_learnt(family):
    make, arguments = SMALLEST[family]
    torch.manual_seed(0)
    model = make(4, CIFAR, **arguments, mean=[0.5, 0.4, 0.3], std=[0.25, 0.5, 1.0]).eval()
    torch.manual_seed(0)
    plain = make(4, CIFAR, **arguments).eval()
    images = torch.rand(2, *CIFAR)
    by_hand = (images - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.25, 0.5, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(model(images), plain(by_hand))
    assert "0.mean" in model.state_dict()
    assert parameters(model) == parameters(plain)


WIDTHS = "model.widths must be a list of whole numbers ≥ 1, got"


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (mlp, {"widths": [0]}, f"{WIDTHS} [0]."),
        (mlp, {"widths": [True]}, f"{WIDTHS} [True]."),
        (mlp, {"widths": 800}, f"{WIDTHS} 800."),
        (mlp, {"widths": "800"}, f"{WIDTHS} '800'."),
        (mlp, {"dropout": 1}, "model.dropout must be ≥ 0 and < 1, got 1."),
        (mlp, {"input_dropout": -0.5}, "model.input_dropout must be ≥ 0 and < 1, got -0.5."),
        (mlp, {"std": [0.0]}, "model.std must be > 0, got [0.0]."),
        (
            mlp,
            {"mean": [0.1, 0.2]},
            "model.mean must be one number, or one for each of 3 channel(s), got [0.1, 0.2].",
        ),
        (cnn, {"channels": [8.0]}, "model.channels must be a list of whole numbers ≥ 1, got [8.0]."),
        (cnn, {"dropout": "x"}, "model.dropout must be ≥ 0 and < 1, got 'x'."),
        (
            cnn,
            {"channels": [2] * 6},
            "model.channels must be at most as long as 32×32 can be halved, got [2, 2, 2, 2, 2, 2].",
        ),
        (resnet, {"depth": 18}, "model.depth must be 6n + 2, that is 8, 14, 20, 32, 44, 56, 110 …, got 18."),
        (resnet, {"depth": 2}, "model.depth must be 6n + 2, that is 8, 14, 20, 32, 44, 56, 110 …, got 2."),
        (
            resnet,
            {"widths": [16, 32, 64]},
            "model.widths must be four widths, the stem's and the three stages', got [16, 32, 64].",
        ),
        (wrn, {"depth": 20}, "model.depth must be 6n + 4, that is 10, 16, 22, 28, 40 …, got 20."),
        (wrn, {"width": 0}, "model.width must be a whole number ≥ 1, got 0."),
        (wrn, {"dropout": 1.5}, "model.dropout must be ≥ 0 and < 1, got 1.5."),
        (
            torchvision,
            {"name": "resnet18", "weights": "IMAGENET"},
            "model.weights must be null, DEFAULT, one of IMAGENET1K_V1, or the file of one "
            "(resnet18-f37072fd.pth), got 'IMAGENET'.",
        ),
    ],
)
def test_values_outside_their_rule_are_refused(make, arguments, message):
    with pytest.raises(ConfigError) as refusal:
        make(10, CIFAR, **arguments)
    assert str(refusal.value) == message


def test_a_normalisation_that_is_no_list_is_refused():
    with pytest.raises(
        ConfigError, match=r"^model\.mean must be one number, or one for each of 3 channel\(s\), got 0\.5\."
    ):
        Normalise(0.5, [1.0], 3)


@pytest.mark.parametrize("family", [mlp, cnn])
def test_weights_have_the_same_names_with_and_without_dropout(family):
    plain, dropped = family(10, (1, 8, 8)), family(10, (1, 8, 8), dropout=0.5)
    assert list(plain.state_dict()) == list(dropped.state_dict())
