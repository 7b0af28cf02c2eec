"""The CIFAR networks of public implementations answer alike in kd's own."""

from functools import partial
from typing import Any

import pytest
import torch
from public_networks import ResNet, WideResNet, settled
from torch import nn

from kd_cli.models.resnet import resnet
from kd_cli.models.wrn import wrn
from kd_cli.store.matching import match, misfit

SHAPE = (3, 32, 32)
THEIRS: dict[str, tuple[Any, Any]] = {
    "akamaster": (partial(ResNet, 2, 7, "shortcut", "linear", "A"), partial(resnet, depth=14)),
    "kuangliu's names": (partial(ResNet, 2, 7, "shortcut", "linear"), partial(resnet, depth=14)),
    "chenyaofo": (partial(ResNet, 3, 7, "downsample", "fc"), partial(resnet, depth=20)),
    "RepDistiller": (partial(ResNet, 1, 7, "downsample", "fc"), partial(resnet, depth=8)),
    "xternalz": (partial(WideResNet, 2, 2, 7), partial(wrn, depth=16, width=2)),
    "RepDistiller's WRN": (partial(WideResNet, 1, 1, 7), partial(wrn, depth=10, width=1)),
}


@pytest.mark.parametrize("prefix", ["", "module.", "model.module."])
@pytest.mark.parametrize("name", THEIRS)
def test_a_public_network_answers_alike(name: str, prefix: str) -> None:
    torch.manual_seed(0)
    theirs, ours = settled(THEIRS[name][0]()), THEIRS[name][1](7, SHAPE).eval()
    state = {prefix + key: value for key, value in theirs.state_dict().items()}
    found = match(ours, state, 7)
    assert (misfit(found, state, ours.state_dict()), found.outside, found.head) == ("", [], [])
    ours.load_state_dict(found.tensors, strict=False)
    images = torch.rand(4, *SHAPE)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_a_network_of_another_depth_is_told() -> None:
    state = ResNet(3, 7, "downsample", "fc").state_dict()
    ours = resnet(7, SHAPE, depth=14)
    found = match(ours, state, 7)
    said = misfit(found, state, ours.state_dict())
    assert said.startswith("unexpected: layer1.2.bn1.bias, layer1.2.bn1.running_mean, "), said
    assert "missing" not in said


def test_other_networks_of_numbered_layers_are_left_alone() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 7))
    found = match(plain, {"conv1.weight": torch.zeros(4, 3, 3, 3), "fc.weight": torch.zeros(7, 4)}, 7)
    assert found.missing == ["0.bias", "0.weight", "2.bias", "2.weight"]
