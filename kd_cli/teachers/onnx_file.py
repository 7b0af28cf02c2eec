"""What an ONNX file holds beside what can be computed: its weights, and what its maker states of its inputs."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd_cli.errors import ArtifactError, Phrase, first_line
from kd_cli.extras import library

# What exporters call these in a file's metadata.
NAMES = {
    "layout": ("layout", "input_layout"),
    "size": ("size", "imgsz", "input_size"),
    "mean": ("mean", "image_mean", "norm_mean"),
    "std": ("std", "image_std", "norm_std"),
    "scale": ("scale",),
    "classes": ("classes", "names", "labels", "class_names", "id2label"),
}
NOT_LEARNT = ("INT32", "INT64", "BOOL", "STRING")  # types of shapes, axes and indices


@dataclass(frozen=True)
class Stated:
    """How images are shown, and what the outputs are called; None where nobody says."""

    layout: str | None = None
    size: int | Sequence[int] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    scale: float | None = None
    classes: Sequence[str] | None = None


def stated_by(runtime: Any, asked: Stated) -> Stated:
    """Return what was asked for, completed by what the file's metadata states."""
    metadata = {str(key).lower(): value for key, value in runtime.get_modelmeta().custom_metadata_map.items()}
    found: dict[str, Any] = {}
    for key, names in NAMES.items():
        written = next((metadata[name] for name in names if name in metadata), None)
        if getattr(asked, key) is None and written is not None:
            found[key] = _read(key, written)
    return replace(asked, **found)


def learnt(path: Path) -> int:
    """Return how many numbers the graph has learnt: those of its initializers and constants that are no whole numbers
    of a shape or an index.
    """
    onnx = library("onnx", "onnx", "teacher=onnx")
    graph, total = _graph(path), 0
    for tensor in _tensors(graph):
        kind, numbers = onnx.TensorProto.DataType.Name(tensor.data_type), 1
        for size in tensor.dims:
            numbers *= size
        total += 0 if kind in NOT_LEARNT else numbers
    return total


def files_of(path: Path) -> list[Path]:
    """Return the file, and those beside it that hold its weights."""
    places = {
        entry.value for tensor in _tensors(_graph(path)) for entry in tensor.external_data if entry.key == "location"
    }
    return [path, *(path.parent / place for place in sorted(places))]


def _graph(path: Path) -> Any:
    onnx = library("onnx", "onnx", "teacher=onnx")
    try:
        return onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # a parser's own
        got = Phrase(f"{str(path)!r}: {first_line(error)[:300]}")
        raise ArtifactError.must(".path", "an ONNX file", got) from error


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor that a graph holds, those of its nodes and of graphs within them among them."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)


def _read(key: str, written: str) -> Any:
    """What a file states of a key, None where it cannot be read: nobody has to write it so."""
    if key == "layout":
        return written if written in ("NCHW", "NHWC") else None
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = [name.strip() for name in written.split(",")] if key == "classes" else None
    if key == "classes" and isinstance(value, dict):
        return [str(value[k]) for k in sorted(value, key=int)] if all(str(k).isdigit() for k in value) else None
    if key in ("mean", "std") and isinstance(value, int | float):
        value = [value]
    if key in ("classes", "mean", "std"):
        return list(value) if isinstance(value, list | tuple) and value else None
    return value if isinstance(value, int | float | list | tuple) else None
