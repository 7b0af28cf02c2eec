"""Weights of a stranger."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from folders import headers, put, refused
from safetensors.torch import load_file, save

import kd_cli


class Evil:
    """Its pickle makes a folder when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def pickled(folder: Path) -> bytes:
    torch.save(Evil(), folder / "evil")
    return (folder / "evil").read_bytes()


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", headers("a"))
def test_weights_with_a_false_header_are_not_read(name: str, student: Path) -> None:
    put(student, "model.safetensors", headers("0.mean")[name])
    assert "model.safetensors" in refused(lambda: kd_cli.load(student))


WEIGHTS: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "another type": lambda state: {name: value.double() for name, value in state.items()},
    "whole numbers": lambda state: {name: value.long() for name, value in state.items()},
    "one missing": lambda state: dict(list(state.items())[1:]),
    "one too many": lambda state: {**state, "more": torch.zeros(1)},
    "another shape": lambda state: {name: value[None] for name, value in state.items()},
    "other names": lambda state: {f"x.{name}": value for name, value in state.items()},
    "none": lambda state: {},
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_another_network_are_not_loaded(name: str, student: Path) -> None:
    put(student, "model.safetensors", save(WEIGHTS[name](load_file(student / "model.safetensors"))))
    assert "holds weights that do not fit its config" in refused(lambda: kd_cli.load(student))


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml"])
def test_a_pickle_under_another_name_is_not_loaded(name: str, student: Path) -> None:
    put(student, name, pickled(student))
    refused(lambda: kd_cli.load(student))
