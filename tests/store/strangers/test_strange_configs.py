"""Folders from a stranger, whose digests agree: each ends in one ArtifactError. Nothing of them is executed, nothing is
written or fetched, no memory is taken for what they claim, and nothing waits for ever.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from folders import HUGE, TORCHVISION, configure, put, refused

import kd_cli

MLP = {"_target_": "kd_cli.models.mlp.mlp", "_partial_": True}


TARGETS = [
    "os.system",
    "builtins.exec",
    "posix.system",
    "functools.partial",
    "subprocess.run",
    "hydra.utils.call",
    "torch.load",
    "torch.nn.modules.module.warnings.warn",
    "torch.nn.modules.module.functools.partial",
    "torch.nn.modules.module.torch.load",
    "torch.nn.functional.importlib.import_module",
    "torch.nn.init.kaiming_normal_",
    "torch.nn.utils.skip_init",
    "torch.nn.utils.parametrize.register_parametrization",
    "kd_cli.models.mlp.nn.utils.skip_init",
    "kd_cli.models.mlp.dense",
    "kd_cli.models.pretrained._hub_folder",
    "kd_cli.models.hf._images",
    "kd_cli.models.pretrained.first_line",
    "kd_cli.datasets.mnist.mnist",
    "kd_cli.datasets.cifar.cifar10",
    "kd_cli.store.models.load",
    "torchvision.models.get_model",
    "torchvision.models.get_weight",
    "torchvision.models.list_models",
    "torchvision.models._utils.IntermediateLayerGetter",
    "torchvision.models._api.load_state_dict_from_url",
    "torchvision.models.resnet.load_state_dict_from_url",
    "torchvision.models.detection.fasterrcnn_resnet50_fpn",
    "torchvision.models.no_such_thing",
    "torch.nn..Linear",
    "torch.nn.Linear.__init__.__globals__",
    "kd_cli.models.mlp.mlp.__globals__",
    "kd_cli.models",
    "torch.nn",
]


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("place", ["model", "argument"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_name_that_is_no_network_is_not_called(target: str, place: str, student: Path) -> None:
    evil = {"_target_": target, "_partial_": place == "argument", "name": "resnet18", "weights": "DEFAULT"}
    configure(student, model=evil if place == "model" else {**MLP, "widths": [{"deeper": evil}]})
    assert f"names {target!r}, which may not be built" in refused(lambda: kd_cli.load(student))


MODELS: dict[str, Any] = {
    "arguments by position": {**MLP, "_args_": [10, [1, 8, 8]]},
    "not recursive": {**MLP, "_recursive_": False},
    "converted": {**MLP, "_convert_": "all"},
    "the environment": {**MLP, "dropout": "${oc.env:KD_SECRET}"},
    "the environment in a key": {**MLP, "${oc.env:KD_SECRET}": 1},
    "a resolver": {**MLP, "widths": ["${oc.decode:'64'}"]},
    "another key": {**MLP, "widths": [64], "dropout": "${model.widths}"},
    "a missing value": {**MLP, "widths": "???"},
    "weights to download": {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"},
    "weights to download, as they were once": {"_target_": "torchvision.models.resnet18", "pretrained": True},
    "weights to download, deeper": {**MLP, "widths": {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"}},
    "no such weights": {**TORCHVISION, "name": "resnet18", "weights": "../../evil"},
    "no such network": {**TORCHVISION, "name": "get_model"},
    "a wide layer": {**MLP, "widths": [HUGE]},
    "two wide layers": {**MLP, "widths": [10**6, 10**6]},
    "a width without an end": {**MLP, "widths": [10**400]},
    "many layers": {**MLP, "widths": [1] * 10_000},
    "a deep network": {"_target_": "kd_cli.models.resnet.resnet", "depth": 6 * HUGE + 2},
    "another deep network": {"_target_": "kd_cli.models.wrn.wrn", "depth": 6 * HUGE + 4, "widen": 1},
    "a wide network": {"_target_": "kd_cli.models.wrn.wrn", "depth": 16, "widen": 10**6},
    "a layer as an argument": {
        **MLP,
        "widths": {"_target_": "torch.nn.Linear", "in_features": HUGE, "out_features": 9},
    },
    "a negative width": {**MLP, "widths": [-1]},
    "no numbers": {**MLP, "widths": [float("nan")]},
    "a word": "mlp",
    "nothing to build": {"widths": [64]},
    "another network": {**MLP, "widths": [65]},
    "no network of images": {"_target_": "torch.nn.Identity"},
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_not_the_stored_one_is_not_built(name: str, student: Path) -> None:
    configure(student, model=MODELS[name])
    assert "0.123" not in refused(lambda: kd_cli.load(student))


def bomb(levels: int = 12) -> str:
    """Nine times nine times … of the first list."""
    lines = ["l0: &l0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 9)}]" for k in range(1, levels)]
    return "\n".join([*lines, f"model: *l{levels - 1}"])


YAML = {
    "a tag of Python": "model: !!python/object/apply:os.mkdir [executed]",
    "a name of Python": "model: !!python/name:os.system",
    "an alias": "classes: &a [a]\ninput_shape: [1, 8, 8]\nmodel: *a",
    "an alias to itself": "model: &a [*a]",
    "a billion laughs": bomb(),
    "merged keys": "\n".join(["a: &a {x: 1}", *(f"b{k}: &b{k} {{<<: [{', '.join(['*a'] * 9)}]}}" for k in range(9))]),
    "depth": "model: " + "[" * 100_000,
    "balanced depth": "model: " + "[" * 500 + "]" * 500,
    "size": "# " + "x" * (1 << 23),
    "other bytes": "model: \x00",
    "two documents": "a: 1\n---\nb: 2",
    "keys that are no words": json.dumps({"classes": list("ab"), "input_shape": [1, 8, 8]})[:-1] + ", model: {1: 2}}",
    "bytes": "classes: [a]\ninput_shape: [1, 8, 8]\nmodel: {_target_: kd_cli.models.mlp.mlp, widths: !!binary YQ==}",
    "a date": "classes: [a]\ninput_shape: [1, 8, 8]\nmodel: {_target_: kd_cli.models.mlp.mlp, widths: 2020-01-01}",
    "large images": "classes: [a]\ninput_shape: [1, 1000000, 1000000]\nmodel: {_target_: kd_cli.models.cnn.cnn}",
    "a number without an end": "classes: [a]\ninput_shape: [1, 8, .inf]\nmodel: {_target_: kd_cli.models.cnn.cnn}",
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", YAML)
def test_a_config_that_is_a_trap_is_not_followed(name: str, student: Path) -> None:
    put(student, "config.yaml", YAML[name].encode())
    refused(lambda: kd_cli.load(student))
