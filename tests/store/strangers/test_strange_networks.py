"""Networks and data sets that a stranger names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from folders import TORCHVISION, configure, put, refused
from running import inside
from safetensors.torch import save

import kd_cli
from kd_cli.data.spec import image_spec
from kd_cli.errors import ArtifactError
from kd_cli.models.pretrained import torchvision
from kd_cli.store.models import stored_node
from kd_cli.teachers.specialists.network import Specialist


@pytest.mark.parametrize(
    "dataset",
    [
        {"_target_": "kd_cli.models.mlp.mlp"},
        {"_target_": "kd_cli.datasets.mnist._download", "folder": "MNIST", "root": "executed"},
        {"_target_": "kd_cli.datasets.mnist.Path", "_args_": ["executed"]},
        {"_target_": "kd_cli.datasets.mnist.mnist", "root": "executed"},
        {"_target_": "kd_cli.datasets.digits.digits", "seed": {"_target_": "kd_cli.datasets.mnist.mnist", "root": "e"}},
        {"_target_": "kd_cli.datasets.mnist.mnist", "root": "${oc.env:HOME}"},
        {"root": "x"},
        "digits",
    ],
)
@pytest.mark.usefixtures("watched")
def test_a_stored_data_set_fetches_and_calls_nothing(dataset: Any, student: Path) -> None:
    configure(student, dataset=dataset)
    here = Path.cwd()
    done = inside("evaluate", f"path={student}", cwd=here)
    assert (done.status, done.out, "Traceback" in done.err) == (1, "", False), done.err
    assert done.err.count("\n") == 1
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(("name", "weights"), [("squeezenet1_1", "DEFAULT"), ("regnet_y_400mf", None)])
def test_a_network_of_torchvision_is_filled_with_its_own_weights_alone(name, weights, student, monkeypatch) -> None:
    """Published ones, which its training began with, are neither read nor downloaded."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("the published weights were fetched")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    network = torchvision(10, (1, 8, 8), name=name, weights=weights, fetch=False)
    put(student, "model.safetensors", save(network.state_dict()))
    configure(student, model={**TORCHVISION, "name": name, "weights": weights})
    loaded = kd_cli.load(student).model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", ["regnet_y_128gf", "vit_h_14", "vgg19"])
def test_a_large_network_of_torchvision_is_not_built_for_a_small_file(name: str, student: Path) -> None:
    configure(student, model={**TORCHVISION, "name": name, "weights": None})
    assert "holds weights that do not fit its config" in refused(lambda: kd_cli.load(student))


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("fetch", [{}, {"fetch": True}])
def test_a_network_within_another_fetches_nothing(depth: int, fetch: dict[str, bool], student, monkeypatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("the published weights were fetched")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    model = {**TORCHVISION, "name": "squeezenet1_1", "weights": "DEFAULT", **fetch}
    network = torchvision(10, (1, 8, 8), name="squeezenet1_1", weights="DEFAULT", fetch=False)
    for _ in range(depth):
        inner = network
        model = {"_target_": "kd_cli.teachers.specialists.network.Specialist", "network": {**model, "_partial_": True}}
        network = Specialist(10, image_spec((1, 8, 8)), lambda inner=inner, **_: inner)
    put(student, "model.safetensors", save(network.state_dict()))
    configure(student, model=model)
    loaded = kd_cli.load(student).model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())
    inner = stored_node(student)
    for _ in range(depth):
        inner = inner["network"]
    assert inner["fetch"] is False, "nor does a specialist that starts from it"


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("key", ["weights", "weights_backbone", "pretrained", "pretrained_backbone"])
@pytest.mark.parametrize("name", ["resnet18", "resnet.resnet18", "googlenet"])
@pytest.mark.parametrize("trusted", [[], ["torchvision"]], ids=["", "trusted"])
def test_a_builder_of_torchvision_within_another_network_is_refused_with_weights(key, name, trusted, student) -> None:
    builder = {"_target_": f"torchvision.models.{name}", "_partial_": True, key: "DEFAULT"}
    specialist = "kd_cli.teachers.specialists.network.Specialist"
    configure(student, model={"_target_": specialist, "network": {"_target_": specialist, "network": builder}})
    with pytest.raises(ArtifactError, match=r"with weights to download: a stored model has its own\.$"):
        kd_cli.load(student, trusted)
