"""Teachers that do not fit."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from images import folders, image_folder
from running import TINY, inside
from safetensors.torch import load_file, save_file


def test_a_teacher_for_other_classes(made: Path, tmp_path: Path) -> None:
    folders(tmp_path / "pets", ["cat", "dog"], 8)
    (teacher,) = (made / "outputs" / "teachers").iterdir()
    done = inside(
        "distill",
        *image_folder("pets", 8),
        "teacher=artifact",
        f"teacher.path={teacher}",
        "student=mlp_64",
        TINY[1],
        cwd=tmp_path,
    )
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"teacher.path must be a model with the classes of dataset=image_folder, got {str(teacher)!r}, "
        "whose classes is [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] instead of [cat, dog].\n"
    )
    assert not (tmp_path / "outputs").exists()


def test_a_teacher_for_another_input_shape(made: Path, tmp_path: Path) -> None:
    folders(tmp_path / "tens", [str(k) for k in range(10)], 9, each=2)
    (teacher,) = (made / "outputs" / "teachers").iterdir()
    done = inside(
        "distill",
        *image_folder("tens", 9),
        "teacher=artifact",
        f"teacher.path={teacher}",
        "student=mlp_64",
        TINY[1],
        cwd=tmp_path,
    )
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"teacher.path must be a model with the input shape of dataset=image_folder, got {str(teacher)!r}, "
        "whose input shape is [1, 8, 8] instead of [1, 9, 9].\n"
    )
    assert not (tmp_path / "outputs").exists()


def checkpoint(folder: Path, path: str, *words: str) -> str:
    """What is said of this checkpoint."""
    done = inside(
        "distill",
        TINY[1],
        "teacher=checkpoint",
        "model@teacher.model=cnn",
        f"teacher.path={path}",
        *words,
        cwd=folder,
    )
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err
    assert "UserWarning" not in done.err
    assert done.err.count("\n") == 1 + 2 * ("Two lines of Python" in done.err), done.err
    assert not (folder / "outputs").exists()
    return done.err.rstrip("\n")


TENSORS = (
    "teacher.path must be a checkpoint that holds tensors alone (.safetensors, or .pt that loads with "
    "weights_only=True), got "
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pt", b""),
        ("a.pt", b"junk"),
        ("a.pt", b"\x80\x04junk and more of it"),
        ("a.pth", b"PK\x03\x04 half a zip"),
        ("a.safetensors", b""),
        ("a.safetensors", b"junk"),
        ("a.safetensors", bytes([255] * 64)),
    ],
)
def test_a_checkpoint_of_another_format(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert checkpoint(tmp_path, name).startswith(f"{TENSORS}{name!r}")


class Marker:
    """Its pickle makes a folder when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"weights": Marker()}, tmp_path / "evil.pt")
    said = checkpoint(tmp_path, "evil.pt")
    assert said.startswith(f"{TENSORS}'evil.pt'")
    assert "False" not in said, "no advice to switch the protection off"
    assert not (tmp_path / "executed").exists()


def test_a_whole_module_is_no_state_dict(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    assert checkpoint(tmp_path, "module.pt").startswith(f"{TENSORS}'module.pt'")


def test_a_list_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    expected = "teacher.path must be a state dict (names and tensors), got another format in 'list.pt'."
    assert checkpoint(tmp_path, "list.pt") == expected


@pytest.fixture
def weights(made: Path) -> dict[str, torch.Tensor]:
    (teacher,) = (made / "outputs" / "teachers").iterdir()
    return load_file(teacher / "model.safetensors")


def test_keys_that_do_not_fit_are_listed(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    weights["extra"] = weights.pop("8.weight")
    weights["8.bias"] = torch.zeros(3)
    save_file(weights, tmp_path / "x.safetensors")
    assert checkpoint(tmp_path, "x.safetensors") == (
        "teacher.path=x.safetensors does not fit teacher.model. "
        "Keys missing: 8.weight (extra?); unexpected: extra; of another shape: 8.bias [3] instead of [128]."
    )


def test_classes_of_a_checkpoint_must_hold_those_of_the_data_set(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(weights, tmp_path / "x.safetensors")
    assert checkpoint(tmp_path, "x.safetensors", "teacher.classes=[0,1,2,3,4,5,6,7,8]") == (
        "teacher.classes must be a list that holds every class of dataset=digits, "
        "got ['0', '1', '2', '3', '4', '5', '6', '7', '8']. Missing: ['9']."
    )
    assert checkpoint(tmp_path, "x.safetensors", "teacher.classes=[0,1,2,3,4,5,6,7,8,9,9]") == (
        "teacher.classes must be a list without repetition, "
        "got ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '9']."
    )
