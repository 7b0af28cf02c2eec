"""Networks of torchvision."""

import warnings

import pytest
import torch
from published import parameters, published
from torch import nn
from torchvision import models as zoo

from kd_cli.errors import ConfigError
from kd_cli.models.pretrained import _replace_heads, torchvision

CIFAR = (3, 32, 32)


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


def test_an_unknown_torchvision_name_is_answered_with_the_closest():
    with pytest.raises(ConfigError) as refusal:
        torchvision(10, CIFAR, name="resnet_18")
    text = str(refusal.value)
    assert text.startswith("model.name must be a classification model of torchvision, got 'resnet_18'. Did you mean ")
    assert "'resnet18'" in text.partition("Choices: ")[0]
    assert "resnet50" in text.partition("Choices: ")[2]


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
