"""torchvision's published weights by file: known by their digest, whatever they are called."""

from pathlib import Path

import pytest
import torch
from torchvision import models as zoo

from kd_cli.errors import ConfigError
from kd_cli.models.pretrained import resolved, torchvision

CIFAR = (3, 32, 32)


def test_another_file_is_refused_with_the_key_for_weights_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "resnet18-f37072fd.pth"
    torch.save(zoo.resnet18().state_dict(), path)
    with pytest.raises(ConfigError) as refusal:
        torchvision(7, CIFAR, name="resnet18", weights=str(path))
    said = str(refusal.value)
    assert "model.weights must be a file as torchvision publishes it (resnet18-f37072fd.pth)" in said
    assert f"model.weights=null, and training begins with train.start_from={path}" in said


def test_what_is_neither_a_name_nor_a_file_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        torchvision(7, CIFAR, name="resnet18", weights="none.pth")
    assert "one of IMAGENET1K_V1, or the file of one (resnet18-f37072fd.pth), got 'none.pth'." in str(refusal.value)


def test_a_network_as_it_was_published_needs_published_weights() -> None:
    with pytest.raises(ConfigError, match="weights must be DEFAULT, the name of published weights, or their file"):
        torchvision(None, CIFAR, name="resnet18")


def test_names_of_weights_stay_as_they_are_in_a_config() -> None:
    for weights in (None, "DEFAULT", "IMAGENET1K_V1"):
        node = {"_target_": "kd_cli.models.pretrained.torchvision", "name": "resnet18", "weights": weights}
        assert resolved(node) == node
