"""Files of weights from elsewhere: what is read, and what is said of the rest."""

import argparse
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from kd_cli.errors import ArtifactError
from kd_cli.models.pretrained import torchvision
from kd_cli.store.foreign_file import read_weights
from kd_cli.store.matching import match, misfit

NET = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
STATE = NET.state_dict()


def renamed(before: str) -> dict[str, torch.Tensor]:
    return {before + name: value for name, value in STATE.items()}


FORMS: dict[str, Any] = {
    "model_state": {"model_state": STATE},
    "Lightning": {"state_dict": renamed("model.") | {"criterion.weight": torch.ones(4)}, "pytorch-lightning_version": 2,
                  "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}]},
    "compiled": {"model": renamed("_orig_mod.module.")},
    "wrapped amid": {name.replace("0.", "0.module.", 1): value for name, value in STATE.items()},
    "averaged": {"model_ema": renamed("module.") | {"n_averaged": torch.tensor(3)}, "epoch": 4},
    "any prefix": {"state_dict": renamed("some.thing.")},
    "mixture": {("model." if name < "2" else "model.backbone.") + name: value for name, value in STATE.items()},
    "profiled": STATE | {"0.total_ops": torch.zeros(1), "total_params": torch.zeros(1)},
    "old": {name: value for name, value in STATE.items() if "num_batches" not in name},
    "an optimizer beside": {"model": STATE, "optimizer": {"state": {}, "param_groups": [{"lr": 1.0}]}},
    "plain values beside": STATE | {"epoch": 3, "arch": "small"},
    "bfloat16": {name: value.bfloat16() if value.is_floating_point() else value for name, value in STATE.items()},
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pt", ".pth.tar", ".ckpt"])
@pytest.mark.parametrize("form", FORMS)
def test_what_training_scripts_write_is_read(form: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"epoch=4-step=90{suffix}"
    torch.save(FORMS[form], path)
    state = read_weights(path)
    found = match(NET, state, 3)
    assert (misfit(found, state, STATE), found.head) == ("", [])
    assert found.outside == (["criterion.weight"] if form == "Lightning" else [])
    tolerance = {"rtol": 1e-2, "atol": 1e-2} if form == "bfloat16" else {"rtol": 0, "atol": 0}
    for name, value in found.tensors.items():
        torch.testing.assert_close(value.to(STATE[name].dtype), STATE[name], **tolerance)


def test_a_network_of_timm_fits_torchvisions(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    theirs = timm.create_model("resnet18", num_classes=5).eval()
    torch.save({"state_dict": theirs.state_dict(), "arch": "resnet18", "epoch": 3}, tmp_path / "x.pth.tar")
    ours = torchvision(5, (3, 64, 64), "resnet18").eval()
    state = read_weights(tmp_path / "x.pth.tar")
    found = match(ours, state, 5)
    assert misfit(found, state, ours.state_dict()) == ""
    ours.load_state_dict(found.tensors, strict=False)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images))


def test_an_entry_or_a_prefix_chooses_one_of_several_networks(tmp_path: Path) -> None:
    other = {name: value + 1 for name, value in STATE.items()}
    torch.save({"model": STATE, "model_ema": {f"module.{k}": v for k, v in other.items()}}, tmp_path / "two.pt")
    assert read_weights(tmp_path / "two.pt").keys() == STATE.keys()
    assert torch.equal(read_weights(tmp_path / "two.pt", part="model_ema")["module.3.bias"], other["3.bias"])
    torch.save(renamed("left.") | {f"right.{k}": v for k, v in other.items()}, tmp_path / "both.pt")
    with pytest.raises(ArtifactError, match=r"several networks that fit: left\.…, right\.…"):
        match(NET, read_weights(tmp_path / "both.pt"), 3)
    assert torch.equal(read_weights(tmp_path / "both.pt", part="right")["3.bias"], other["3.bias"])
    with pytest.raises(ArtifactError, match=r"got 'up'; .*both\.pt holds left, right\.$"):
        read_weights(tmp_path / "both.pt", part="up")


def test_safetensors_are_known_by_their_content(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / "pytorch_model.bin")
    assert read_weights(tmp_path / "pytorch_model.bin").keys() == STATE.keys()


def test_nearest_names_stand_beside_what_is_missing() -> None:
    state = {("head." if name[0] == "3" else "") + name: value for name, value in STATE.items()}
    found = match(NET, {k.replace("head.3", "fc"): v for k, v in state.items()}, 3)
    assert misfit(found, {k.replace("head.3", "fc"): v for k, v in state.items()}, STATE) == (
        "missing: 3.bias (fc.bias?), 3.weight (fc.weight?); unexpected: fc.bias, fc.weight"
    )


def test_integers_are_no_weights() -> None:
    state = STATE | {"3.weight": STATE["3.weight"].to(torch.int8)}
    assert misfit(match(NET, state, 3), state, STATE) == "of another shape: 3.weight int8 instead of float32"


def cut(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-200])


def cut_legacy(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-20])


def cut_safetensors(path: Path) -> None:
    from safetensors.torch import save_file

    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:-20])


def script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer torch says that it is going
        torch.jit.script(nn.Linear(2, 2)).save(str(path))


def with_arguments(path: Path) -> None:
    torch.save({"model": STATE, "args": argparse.Namespace(lr=0.1)}, path)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.pt": (lambda path: path.write_bytes(b""), "which is empty (0 bytes). Download it again"),
    "page.pth": (lambda path: path.write_text("<!DOCTYPE html><p>Sign in"), "which is a page of HTML: "),
    "pointer.pt": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "which is a Git LFS pointer, not the file itself. Fetch it: git lfs pull.",
    ),
    "index.pt": (lambda path: path.write_text('{"weight_map": {}}'), "which is JSON. Name the file of the weights"),
    "cut.pt": (cut, "which is cut off after "),
    "cut_old.pt": (cut_legacy, "which is cut off after "),
    "cut.safetensors": (cut_safetensors, "which is cut off after "),
    "keras.pt": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "which is a Keras file (HDF5)."),
    "script.pt": (script, "which is TorchScript: a program with its weights. Two lines of Python make weights of it:"),
    "network.pt": (lambda path: torch.save(resnet18(), path), "which is a whole pickled network (torch.nn.modules."),
    "network_old.pt": (
        lambda path: torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=False),
        "which is a whole pickled network (torch.nn.modules.linear.Linear). Two lines of Python",
    ),
    "arguments.pt": (with_arguments, "which also holds argparse.Namespace: plain values, but none that torch reads"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_reason_reaches_the_person(name: str, tmp_path: Path) -> None:
    make, expected = BROKEN[name]
    make(tmp_path / name)
    with pytest.raises(ArtifactError) as refusal:
        read_weights(tmp_path / name)
    said = str(refusal.value)
    assert said.startswith("path must be a checkpoint that holds tensors alone (")
    assert f"{name}', {expected}" in said, said


@pytest.mark.parametrize("name", ["script.pt", "network.pt", "network_old.pt", "arguments.pt"])
def test_the_two_lines_make_weights_of_it(name: str, tmp_path: Path) -> None:
    BROKEN[name][0](tmp_path / name)
    with pytest.raises(ArtifactError) as refusal:
        read_weights(tmp_path / name)
    lines = [line.strip() for line in str(refusal.value).splitlines()[1:]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec("\n".join(lines), {})
    (made,) = tmp_path.glob("*_weights.pt")
    assert read_weights(made)


def test_no_advice_to_run_what_is_no_network(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return eval, ("1",)

    torch.save({"a": Evil()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ArtifactError) as refusal:
            read_weights(tmp_path / name)
        assert "a pickle that would run code (" in str(refusal.value)
        assert "False" not in str(refusal.value)
