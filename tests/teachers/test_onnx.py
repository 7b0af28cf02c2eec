"""A teacher in an ONNX file: what it is shown, what is made of its answers, and what is said of both."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx_files import WEIGHT, linear
from running import inside

from kd_cli.data.samples import Dataset
from kd_cli.errors import ArtifactError, ConfigError
from kd_cli.measure.evaluation import evaluate
from kd_cli.measure.flops import work_of
from kd_cli.teachers.onnx import Onnx, located

SHORT = ("student.train.epochs=1", "baseline=false", "evaluate.latency=false")
W = torch.from_numpy(WEIGHT)


@pytest.fixture(scope="module")
def data() -> Dataset:
    from kd_cli.datasets.digits import digits

    return digits()


def inputs(data: Dataset, n: int = 9) -> Any:
    return data.spec.to_network(next(data.test.samples.stream([torch.arange(n)], torch.device("cpu"))))


def opened(path: Path, data: Dataset, **keys: Any) -> Any:
    return Onnx(path=str(path), **keys).network(data, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ends", "gives"),
    [
        ((), "logits"), (("Softmax",), "probabilities"), (("LogSoftmax",), "log_probabilities"),
        (("Softmax", "Log"), "log_probabilities"),
    ],
)  # fmt: skip
def test_what_a_graph_gives_is_found_out_and_its_distribution_is_the_same(
    ends: tuple[str, ...], gives: str, data: Dataset, tmp_path: Path
) -> None:
    network = opened(linear(tmp_path / "m.onnx", ends=ends), data)
    assert network.gives == gives
    wanted = (inputs(data).flatten(1) @ W).log_softmax(1)
    torch.testing.assert_close(network(inputs(data)).log_softmax(1), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "scale"), [("FLOAT", 1), ("DOUBLE", 1), ("UINT8", 255), ("INT32", 255), ("INT64", 255)]
)
def test_images_become_what_the_graph_takes(kind: str, scale: int, data: Dataset, tmp_path: Path) -> None:
    network = opened(linear(tmp_path / "m.onnx", kind=kind, ends=()), data)
    torch.testing.assert_close(network(inputs(data)), scale * inputs(data).flatten(1) @ W, rtol=1e-4, atol=1e-2)


def test_layout_size_normalisation_and_classes_are_read_from_the_file(data: Dataset, tmp_path: Path) -> None:
    names = str({k: f"digit {9 - k}" for k in range(10)})
    path = linear(
        tmp_path / "m.onnx", shape=("n", 4, 4, 4), ends=(), mean="[127.5]", std="[51.0]", names=names, layout="NCHW"
    )
    colours = {str(k): f"Digit_{k}" for k in range(10)}
    with pytest.raises(ConfigError, match="such that every class of dataset=digits is among the teacher's"):
        opened(path, data)
    network = opened(path, data, classes=colours)
    small = torch.nn.functional.interpolate(inputs(data), (4, 4), mode="bilinear", antialias=True)
    wanted = ((small - 0.5) / 0.2).expand(-1, 4, -1, -1).flatten(1) @ W
    torch.testing.assert_close(network(inputs(data)), wanted.flip(1), rtol=1e-4, atol=1e-4)
    upright = linear(tmp_path / "h.onnx", shape=("n", 8, 8, 1), ends=())
    assert opened(upright, data).feed.layout == "NHWC"


def test_a_fixed_batch_is_filled(data: Dataset, tmp_path: Path) -> None:
    fixed = opened(linear(tmp_path / "m.onnx", shape=(4, 1, 8, 8)), data)
    free = opened(linear(tmp_path / "n.onnx"), data)
    for n in (1, 4, 9):
        torch.testing.assert_close(fixed(inputs(data, n)), free(inputs(data, n)))


def test_parameters_are_counted_and_flops_are_unknown(data: Dataset, tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx")
    network = opened(path, data)
    assert math.isinf(work_of(network, data.spec).flops)
    figures = evaluate(network, data.test.select(torch.arange(20)), data.classes, torch.device("cpu")).measured
    assert (figures.params, figures.flops, figures.bytes) == (640, None, path.stat().st_size)


def test_an_export_of_torch_is_distilled_and_found_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.Softmax(1)).eval()
    torch.onnx.export(
        network, (torch.rand(2, 1, 8, 8),), str(tmp_path / "m.onnx"), verbose=False,
        input_names=["image"], dynamic_shapes=({0: torch.export.Dim("n")},),
    )  # fmt: skip
    words = ("teacher=onnx", "teacher.path=m.onnx", *SHORT)
    done = inside("distill", *words, cwd=tmp_path)
    assert "gives probabilities (found out by 64 images), whose logarithms are taken" in done.err
    assert done.result["teacher"]["flops"] is None
    assert done.result["teacher"]["artifact"] == "m.onnx"
    (tmp_path / "m.onnx").rename(tmp_path / "other.onnx")
    again = inside("distill", "teacher=onnx", "teacher.path=other.onnx", *SHORT, cwd=tmp_path).result
    assert again["stages"]["soft_targets"]["cached"] is True
    members = ["teacher=ensemble", "teacher.members=[onnx,mlp_8]", "teacher.members.0.path=other.onnx"]
    both = inside("distill", *members, "teacher.members.1.train.epochs=1", *SHORT, cwd=tmp_path).result["teacher"]
    assert both["flops"] is None
    assert both["params"] > 650
    assert [member["errors"] for member in both["members"]][0] == done.result["teacher"]["errors"]  # noqa: RUF015


def test_refusals_say_what_to_do(data: Dataset, tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07nonsense")
    for keys, said in (
        ({"path": "no.onnx"}, "path must be an ONNX file, got 'no.onnx', where there is no file"),
        ({"path": "no_such_package:m.onnx"}, "and no_such_package is not installed"),
        ({"path": str(tmp_path / "bad.onnx")}, "path must be an ONNX file that onnxruntime can read"),
        ({"output": "z"}, r"output must be one of the graph's outputs \(y1\), got 'z'"),
        ({"input": "z"}, "input must be an input of the graph"),
        ({"size": 9}, "size must be null, as the graph takes 8×8 alone, got 9"),
        ({"gives": "odds"}, "gives must be null or one of logits, probabilities, log_probabilities"),
        ({"layout": "CHW"}, "layout must be null, NCHW or NHWC"),
        ({"classes": ["a", "b"]}, "classes must be a list of 10 names, one for each output, got 2 names"),
    ):
        with pytest.raises((ConfigError, ArtifactError), match=said):
            opened(keys.pop("path", path), data, **keys)
    assert located("sklearn:__init__.py").name == "__init__.py"
