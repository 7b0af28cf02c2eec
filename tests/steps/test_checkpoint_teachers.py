"""`teacher=checkpoint` and `start_from=<file>`, from the command line."""

import json
from pathlib import Path

import pytest
import torch
from running import TINY, Outcome, inside
from safetensors.torch import load_file

import kd_cli

MODEL = ("teacher=checkpoint", "model@teacher.model=cnn", "teacher.model.dropout=0.5")
FEW = ("student.train.epochs=1", "baseline=false", "evaluate.latency=false")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("checkpoints")
    done = inside("train-teacher", "teacher.train.epochs=12", "evaluate.latency=false", cwd=folder)
    return folder, done, load_file(folder / "outputs" / done.result["teacher"]["artifact"] / "model.safetensors")


def saved(state: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save({"state_dict": {f"model.{name}": value.half() for name, value in state.items()}}, path)
    return path


def test_its_run_has_the_teacher_once_the_file_is_gone(first, tmp_path: Path) -> None:
    _, _, state = first
    path = saved(state, tmp_path / "epoch=4-step (90).ckpt")
    made = inside("distill", *MODEL, f"teacher.path={path}", *FEW, cwd=tmp_path)
    artifact = made.result["teacher"]["artifact"]
    assert artifact.startswith("teachers/")
    assert made.result["teacher"]["latency_ms"] is None
    path.unlink()
    for where in (made.run, tmp_path / "outputs" / artifact):
        found = inside("evaluate", f"path={where}", "format=json", "evaluate.latency=false", cwd=tmp_path)
        assert found.status == 0, found.err
    assert json.loads(found.out)["errors"] == made.result["teacher"]["errors"]
    again = inside("distill", "teacher=artifact", f"teacher.path=outputs/{artifact}", *FEW, cwd=tmp_path).result
    assert again["stages"]["student"]["cached"]
    listed = inside("list", "format=json", cwd=tmp_path)
    assert "cnn, 10 classes, from epoch=4-step (90).ckpt" in [each["title"] for each in json.loads(listed.out)]


def test_outputs_that_are_more_and_in_another_order_are_stored_as_they_were_chosen(first, tmp_path: Path) -> None:
    _, done, state = first
    last = max((name.removesuffix(".weight") for name in state if name.endswith(".weight")), key=int)
    for leaf in ("weight", "bias"):
        value = state[f"{last}.{leaf}"]
        state = {**state, f"{last}.{leaf}": torch.cat([value.flip(0), value[:1] + 50])}
    path = saved(state, tmp_path / "more.pt")
    (tmp_path / "names.txt").write_text("".join(f"{k}\n" for k in range(9, -1, -1)) + "ten\n")
    words = (*MODEL, f"teacher.path={path}", "evaluate.latency=false")
    said = inside("train-teacher", *words, cwd=tmp_path).err
    assert said == (
        f"teacher.path={path} has outputs for 11 classes, 10 are wanted. Name its classes in the order of its outputs: "
        "teacher.classes=[…], or a text file with a name a line. Or train further from it, with a new output layer: "
        f"teacher=<one that is trained> teacher.train.start_from={path}.\n"
    )
    made = inside("train-teacher", *words, "teacher.classes=names.txt", cwd=tmp_path)
    assert made.result["teacher"]["errors"] <= done.result["teacher"]["errors"] + 3
    found = inside("evaluate", f"path={made.run}", "format=json", cwd=tmp_path)
    assert json.loads(found.out)["errors"] == made.result["teacher"]["errors"]


def test_a_normalisation_that_is_missing_is_told(first, tmp_path: Path) -> None:
    _, _, state = first
    bare = {name: value for name, value in state.items() if not name.endswith(("mean", "std"))}
    words = (*MODEL, f"teacher.path={saved(bare, tmp_path / 'x.pt')}", "evaluate.latency=false")
    wrong = inside("train-teacher", *words, "teacher.model.mean=[1.2]", "teacher.model.std=[0.1]", cwd=tmp_path)
    assert wrong.status == 0, wrong.err
    assert " training images only. It would be about " in wrong.err
    assert (
        "with another normalisation of its inputs (none): 'teacher.model.mean=[0]' 'teacher.model.std=[1]'."
        in wrong.err
    )
    assert "normalisation" not in inside("train-teacher", *words, cwd=tmp_path).err


def test_outputs_in_another_order_are_told(first, tmp_path: Path) -> None:
    _, _, state = first
    last = max((name.removesuffix(".weight") for name in state if name.endswith(".weight")), key=int)
    turned = {name: value.roll(3, 0) if name.startswith(f"{last}.") else value for name, value in state.items()}
    words = (*MODEL, f"teacher.path={saved(turned, tmp_path / 'x.pt')}", "evaluate.latency=false")
    assert (
        "another order of the classes: name it by teacher.classes=[…]."
        in inside("train-teacher", *words, cwd=tmp_path).err
    )


def test_a_training_begins_from_a_file_and_says_that_its_output_layer_is_new(first, tmp_path: Path) -> None:
    _, _, state = first
    last = max((name.removesuffix(".weight") for name in state if name.endswith(".weight")), key=int)
    fewer = {name: value[:7] if name.startswith(f"{last}.") else value for name, value in state.items()}
    words = ("train-teacher", "teacher.train.epochs=1", "evaluate.latency=false", "teacher.train.start_from=x.pt")
    saved(fewer, tmp_path / "x.pt")
    new = inside(*words, cwd=tmp_path)
    layer = f"with a new output layer ({last}.bias, {last}.weight): 7 classes there, 10 here"
    assert f"teacher: begins from x.pt {layer}" in new.err
    saved(state, tmp_path / "x.pt")
    whole = inside(*words, cwd=tmp_path)
    assert "output layer" not in whole.err
    assert whole.result["teacher"]["artifact"] != new.result["teacher"]["artifact"], "what the file holds counts"
    losses = [
        json.loads((tmp_path / "outputs" / done.result["teacher"]["artifact"] / "history.jsonl").read_text())["loss"]
        for done in (whole, new)
    ]
    assert losses[0] < losses[1] / 2
    assert inside(*words, cwd=tmp_path).result["stages"]["teacher"]["cached"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "teacher.train.start_from must be a checkpoint that holds tensors alone ("),
        (None, "teacher.train.start_from must be the file of weights that fits: keys missing: "),
    ],
)
def test_a_file_that_cannot_be_begun_from_is_refused(content, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(2)}, path)
    if content is not None:
        path.write_bytes(content)
    done = inside("train-teacher", *TINY[:1], f"teacher.train.start_from={path}", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(said), done.err


def test_a_torchvision_student_gives_torchvisions_weights(tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    words = ("model@teacher.model=torchvision", "teacher.model.name=squeezenet1_1", "teacher.model.size=32")
    done = inside("train-teacher", *words, "teacher.train.epochs=1", "evaluate.latency=false", cwd=tmp_path)
    artifact = tmp_path / "outputs" / done.result["teacher"]["artifact"]
    loaded = kd_cli.load(artifact)
    network = squeezenet1_1(num_classes=10).eval()
    network.load_state_dict(loaded.state_dict)
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(network(images.expand(-1, 3, -1, -1)), loaded.model(images))
    torch.save(loaded.state_dict, tmp_path / "x.pth")
    words = (*words, "teacher=checkpoint", f"teacher.path={tmp_path / 'x.pth'}", "evaluate.latency=false")
    back = inside("train-teacher", *words, cwd=tmp_path).result
    assert back["teacher"]["errors"] == done.result["teacher"]["errors"]
