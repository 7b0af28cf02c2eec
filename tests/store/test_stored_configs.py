"""What a stored config may name: an allow-list, and no detour around it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rewritten import edit, rewrite
from running import inside

import kd_cli
from kd_cli.errors import ArtifactError

FORBIDDEN = [
    "os.system",
    "os.mkdir",
    "kd_cli.cli.main.os.mkdir",
    "kd_cli.models.os.mkdir",
    "kd_cli.store.artifacts.os.mkdir",
    "kd_cli.store.models.load",
    "kd_cli.models.pretrained.did_you_mean",
    "torch.load",
    "torch.hub.load",
    "torch.nn.modules.module.torch.load",
    "torch.nn.init.math.sqrt",
    "torch.nn.Module.load_state_dict.__globals__",
    "torchvision.models.get_model.__globals__",
    "torchvision.models._api.sys.exit",
    "torchvision.datasets.MNIST",
    "builtins.eval",
    "subprocess.Popen",
    "hydra.utils.instantiate",
    "kd_cli_evil.mlp",
    "",
]


@pytest.mark.parametrize("target", FORBIDDEN)
def test_a_target_outside_the_allow_list_is_refused(
    target: str, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(student)
    edit(student, lambda config: config.update(model={"_target_": target, "_args_": ["executed"]}))
    with pytest.raises(ArtifactError) as refused:
        kd_cli.load(student)
    assert str(refused.value).startswith(f"{student / 'config.yaml'} names {target!r}, which may not be built from a ")
    assert not (student / "executed").exists()


@pytest.mark.parametrize("where", ["argument", "deeper", "list"])
def test_a_nested_target_is_refused_as_well(where: str, student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(student)
    evil: Any = {"_target_": "os.mkdir", "_args_": ["executed"]}
    value = {"argument": evil, "deeper": {"a": {"b": evil}}, "list": [1, [evil]]}[where]
    edit(student, lambda config: config["model"].update(widths=value))
    with pytest.raises(ArtifactError, match=r"names 'os\.mkdir', which may not be built"):
        kd_cli.load(student)
    assert not (student / "executed").exists()


class Evil:
    """Its pickle makes a folder when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "target", ["torch.load", "torch.nn.modules.module.torch.load", "torch.nn.parameter.torch.load"]
)
def test_no_detour_leads_to_a_pickle(target: str, student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(student)
    torch.save(Evil(), student / "evil.pt")
    evil = {"_target_": target, "f": "evil.pt", "weights_only": False}
    edit(student, lambda config: config["model"].update(widths=evil))
    with pytest.raises(ArtifactError):
        kd_cli.load(student)
    assert not (student / "executed").exists()


def test_an_interpolation_cannot_smuggle_in_a_target(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(student)
    model = {"_target_": "${name}", "name": "os.mkdir", "_args_": ["executed"]}
    edit(student, lambda config: config.update(model=model))
    with pytest.raises(ArtifactError):
        kd_cli.load(student)
    assert not (student / "executed").exists()


def test_a_python_tag_in_the_yaml_is_not_executed(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(student)
    rewrite(student, "config.yaml", b"model: !!python/object/apply:os.mkdir [executed]\n")
    with pytest.raises(ArtifactError, match="does not describe a stored model"):
        kd_cli.load(student)
    assert not (student / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"model: 3", b"classes: [a]\ninput_shape: [1, 2]\nmodel: {}", b"\xff"])
def test_a_config_that_describes_no_model(content: bytes, student: Path) -> None:
    rewrite(student, "config.yaml", content)
    with pytest.raises(ArtifactError, match="does not describe a stored model"):
        kd_cli.load(student)


def test_a_data_set_of_a_stored_config_is_checked_too(student: Path, tmp_path: Path) -> None:
    edit(student, lambda config: config.update(dataset={"_target_": "os.mkdir", "path": "executed"}))
    done = inside("evaluate", f"path={student}", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert "names 'os.mkdir', which may not be built from a stored config" in done.err
    assert not (tmp_path / "executed").exists()


def test_an_alias_is_refused_also_where_it_would_do_no_harm(student: Path) -> None:
    text = (student / "config.yaml").read_text("utf-8")
    rewrite(student, "config.yaml", f"{text}\none: &a [1]\nother: *a\n".encode())
    with pytest.raises(ArtifactError, match="it holds an alias"):
        kd_cli.load(student)


def test_trusted_modules_allow_what_the_user_names(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trusted_models.py").write_text("from kd_cli.models.mlp import mlp as mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    edit(student, lambda config: config["model"].update(_target_="trusted_models.mine"))
    with pytest.raises(ArtifactError, match=r"add its module: 'trusted_modules=\[trusted_models\]'"):
        kd_cli.load(student)
    with pytest.raises(ArtifactError):
        kd_cli.load(student, trusted_modules=["trusted"])
    assert kd_cli.load(student, trusted_modules=["trusted_models"]).input_shape == (1, 8, 8)


def test_a_user_does_not_open_the_rest_by_trusting_one_module(student: Path) -> None:
    edit(student, lambda config: config.update(model={"_target_": "os.system", "command": "false"}))
    with pytest.raises(ArtifactError):
        kd_cli.load(student, trusted_modules=["trusted_models"])
