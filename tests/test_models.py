import warnings

import pytest
import torch
from torch import nn
from torchvision import models as zoo

from kd_cli.errors import ConfigError
from kd_cli.models.cnn import cnn
from kd_cli.models.dropout import Dropout
from kd_cli.models.mlp import mlp
from kd_cli.models.normalise import Normalise
from kd_cli.models.pretrained import _replace_heads, torchvision
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


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


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


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_zeroes_its_share_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    out = Dropout(rate)(torch.ones(301, 333))
    dropped = out == 0
    assert float(dropped.float().mean()) == pytest.approx(rate, abs=0.01)
    torch.testing.assert_close(out[~dropped].unique(), torch.tensor([1 / (1 - rate)]))
    shares = dropped.float().mean(0)  # of each unit, over the samples: none is favoured
    assert float((shares - rate).abs().max()) < 0.15


def test_dropout_masks_differ_between_samples_and_steps_and_follow_the_seed():
    dropout, ones = Dropout(0.5), torch.ones(4, 50)
    torch.manual_seed(1)
    first, second = dropout(ones), dropout(ones)
    torch.manual_seed(1)
    assert torch.equal(dropout(ones), first)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_dropout_passes_gradients_through_the_same_mask_and_nothing_in_eval_mode():
    x = torch.ones(5, 7, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    assert torch.equal(Dropout(0.5).eval()(x), x)


@pytest.mark.parametrize(("rate", "zeros"), [(1e-9, 0), (1 - 1e-9, 100)])
def test_dropout_bears_every_rate_that_is_allowed(rate, zeros):
    torch.manual_seed(0)
    assert int((Dropout(rate)(torch.ones(100)) == 0).sum()) == zeros


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet18", (1, 8, 8)), ("mobilenet_v3_small", (1, 28, 28)), ("resnet18", CIFAR), ("squeezenet1_1", CIFAR)],
)
def test_torchvision_models_by_name(name, shape):
    model = torchvision(7, shape, name=name)
    assert model(torch.rand(2, *shape)).shape == (2, 7)


def test_a_torchvision_model_is_torchvisions_own_without_weights():
    torch.manual_seed(0)
    model = torchvision(7, CIFAR, name="resnet18", mean=[0.5], std=[0.5]).eval()
    torch.manual_seed(0)
    theirs = zoo.resnet18(num_classes=7).eval()
    images = torch.rand(2, *CIFAR)
    torch.testing.assert_close(model(images), theirs((images - 0.5) / 0.5))
    assert parameters(model) == parameters(theirs)


def test_grey_images_are_repeated_over_the_colours_and_size_resizes():
    model = torchvision(5, (1, 28, 28), name="mobilenet_v3_small", size=40).eval()
    seen = []
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(torch.rand(2, 1, 28, 28))
    assert seen[0].shape == (2, 3, 40, 40)
    assert torch.equal(seen[0][:, 0], seen[0][:, 2])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "densenet121", "efficientnet_b0"])
def test_the_head_of_an_imagenet_network_is_replaced_and_nothing_else(name):
    network = zoo.get_model(name, weights=None).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    _replace_heads(network, 6)
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 6)
    changed = {key for key, value in network.state_dict().items() if value.shape != before[key].shape}
    assert len(changed) == 2  # weight and bias of one layer
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items() if key not in changed)


def test_a_head_of_1000_classes_stays():
    network = zoo.resnet18()
    head = network.fc
    _replace_heads(network, 1000)
    assert network.fc is head


def test_auxiliary_heads_are_replaced_too():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about its own slow initialisation
        network = zoo.googlenet(init_weights=False)
    _replace_heads(network, 6)
    assert {layer.out_features for layer in (network.fc, network.aux1.fc2, network.aux2.fc2)} == {6}


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
            "model.weights must be null, DEFAULT or one of IMAGENET1K_V1, got 'IMAGENET'.",
        ),
    ],
)
def test_values_outside_their_rule_are_refused(make, arguments, message):
    with pytest.raises(ConfigError) as refusal:
        make(10, CIFAR, **arguments)
    assert str(refusal.value) == message


def test_an_unknown_torchvision_name_is_answered_with_the_closest():
    with pytest.raises(ConfigError) as refusal:
        torchvision(10, CIFAR, name="resnet_18")
    text = str(refusal.value)
    assert text.startswith("model.name must be a classification model of torchvision, got 'resnet_18'. Did you mean ")
    assert "'resnet18'" in text.partition("Choices: ")[0]
    assert "resnet50" in text.partition("Choices: ")[2]


def test_a_normalisation_that_is_no_list_is_refused():
    with pytest.raises(
        ConfigError, match=r"^model\.mean must be one number, or one for each of 3 channel\(s\), got 0\.5\."
    ):
        Normalise(0.5, [1.0], 3)


@pytest.mark.parametrize("family", [mlp, cnn])
def test_weights_have_the_same_names_with_and_without_dropout(family):
    plain, dropped = family(10, (1, 8, 8)), family(10, (1, 8, 8), dropout=0.5)
    assert list(plain.state_dict()) == list(dropped.state_dict())


FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5",
    "mobilenet_v3_small", "resnet50", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "vgg11", "vit_b_16",
)  # fmt: skip


def published() -> list[tuple[str, str]]:
    from torchvision import models

    return [(name, entry.name) for name in FAMILIES for entry in models.get_model_weights(name)]


@pytest.mark.parametrize(("name", "weights"), published())
def test_without_its_weights_a_published_network_is_the_same(name, weights, monkeypatch):
    """As far as names, shapes and what it does with its input go."""
    from torchvision.models import WeightsEnum

    def fetched(self, *args, **kwargs):
        asked.append(self.url)
        return {}

    asked: list[str] = []
    monkeypatch.setattr(WeightsEnum, "get_state_dict", fetched)
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *args, **kwargs: None)
    with torch.device("meta"):
        ours = torchvision(7, CIFAR, name=name, weights=weights, fetch=False)
        assert not asked
        theirs = torchvision(7, CIFAR, name=name, weights=weights)
    assert len(asked) == 1
    shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (ours, theirs)]
    assert shapes[0] == shapes[1]
    for key in ("transform_input", "image_size", "aux_logits"):
        assert getattr(ours.network, key, None) == getattr(theirs.network, key, None)
