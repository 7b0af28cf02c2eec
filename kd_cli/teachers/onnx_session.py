"""An ONNX graph as a network: samples as kd shows them in, logits of the data set's classes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.data.inputs import Inputs, count, tensors
from kd_cli.data.spec import Spec
from kd_cli.errors import Phrase, must
from kd_cli.measure.foreign import Foreign
from kd_cli.models.fitted import size_of
from kd_cli.models.normalise import Normalise
from kd_cli.teachers.onnx_file import Stated

GIVES = ("logits", "probabilities", "log_probabilities")
TYPES = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "uint8": np.uint8, "int8": np.int8,
    "int16": np.int16, "int32": np.int32, "int64": np.int64, "bool": np.bool_,
}  # fmt: skip
LEAST = float(torch.finfo(torch.float32).tiny)  # a probability of 0 is one that was too small to be written
FULL = 255.0  # the range of bytes
PARTS = {"input_ids": ("ids", "tokens"), "attention_mask": ("mask",), "token_type_ids": ("types",)}


@dataclass(frozen=True)
class Feed:
    """How samples become what a graph takes: `names`, for each of its inputs the part of a sample ("" for the whole)
    and its type; of images the layout, the size, the channels, and the normalisation; `batch` where it is fixed.
    """

    names: Mapping[str, tuple[str, type]]
    batch: int | None
    said: str
    layout: str | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    normalise: Normalise | None = None
    scale: float = 1.0

    def arrays(self, inputs: Inputs) -> dict[str, Any]:
        """Return the graph's inputs."""
        made: dict[str, Any] = {}
        for name, (part, kind) in self.names.items():
            value = inputs if isinstance(inputs, Tensor) else inputs[part]
            if self.layout is not None:
                value = self._image(value, kind)
            made[name] = np.ascontiguousarray(value.detach().cpu().numpy().astype(kind, copy=False))
        return made

    def _image(self, images: Tensor, kind: type) -> Tensor:
        if self.channels is not None and images.shape[1] == 1 < self.channels:
            images = images.expand(-1, self.channels, -1, -1)
        if self.size is not None and images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        assert self.normalise is not None
        images = self.normalise.to(images.device)(images) * self.scale
        if np.issubdtype(kind, np.integer):
            images = images.round()
        return images.permute(0, 2, 3, 1) if self.layout == "NHWC" else images


class OnnxNetwork(Foreign):
    """`gives` says what the graph's output is, `order` which of its columns are the data set's classes (None: all as
    they are), `about` what determines its answers.
    """

    def __init__(self, runtime: Any, feed: Feed, output: str, learnt: int, size: int) -> None:
        super().__init__(learnt, size)
        self.runtime, self.feed, self.output = runtime, feed, output
        self.gives, self.about = "logits", dict[str, Any]()
        self.order: list[int] | None = None

    def forward(self, inputs: Inputs) -> Tensor:
        """Return float32 logits `[N, classes]`."""
        n, arrays = count(inputs), self.feed.arrays(inputs)
        step = self.feed.batch or max(n, 1)
        made = [self._run({name: value[k : k + step] for name, value in arrays.items()}) for k in range(0, n, step)]
        logits = torch.from_numpy(np.concatenate(made)).float().to(tensors(inputs)[0].device)
        if self.gives == "probabilities":
            logits = logits.clamp_min(LEAST).log()
        return logits if self.order is None else logits[:, self.order]

    def described(self) -> dict[str, Any]:
        """Return how inputs are made and outputs read, in plain values."""
        feed = self.feed
        shown = feed.normalise and [feed.normalise.mean.flatten().tolist(), feed.normalise.std.flatten().tolist()]
        names = {name: [part, np.dtype(kind).name] for name, (part, kind) in feed.names.items()}
        image = [feed.layout, feed.size, feed.channels, shown, feed.scale]
        return {"inputs": names, "image": image, "output": self.output, "gives": self.gives, "order": self.order}

    def _run(self, arrays: dict[str, Any]) -> Any:
        n = len(next(iter(arrays.values())))
        if self.feed.batch is not None and n < self.feed.batch:
            arrays = {
                name: np.concatenate([v, np.repeat(v[-1:], self.feed.batch - n, 0)]) for name, v in arrays.items()
            }
        made = self.runtime.run([self.output], arrays)[0][:n]
        return made.reshape(n, -1) if made.ndim > 2 and made[0].size == made.shape[1] else made


def feeds(runtime: Any, spec: Spec, asked: str | Mapping[str, str] | None, stated: Stated) -> Feed:
    """Return how samples of `spec` become the graph's inputs; ConfigError where they cannot."""
    graph = {each.name: each for each in runtime.get_inputs()}
    names = _names(graph, spec, asked)
    kinds = {name: _kind(graph[name]) for name in names}
    batches = [graph[name].shape[0] for name in names if graph[name].shape]
    batch = next((size for size in batches if isinstance(size, int) and size > 0), None)
    taken = {name: (part, kinds[name]) for name, part in names.items()}
    told = ", ".join(f"{name} {np.dtype(kinds[name]).name} {list(graph[name].shape)}" for name in names)
    if spec.kind != "image":
        return Feed(taken, batch, told)
    (name,) = names
    shape, ours = list(graph[name].shape), spec.shape[0]
    if len(shape) != 4:
        raise must(".path", f"a graph for {spec}", Phrase(f"one whose {name} has the shape {shape}"))
    layout = stated.layout or ("NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW")
    channels, *fixed = shape[1:] if layout == "NCHW" else [shape[3], *shape[1:3]]
    channels = channels if isinstance(channels, int) and channels > 0 else None
    if channels not in (None, ours) and ours != 1:
        raise must(".path", f"a graph for images with {ours} channels", Phrase(f"one for {channels}"))
    size = size_of(stated.size)
    if all(isinstance(each, int) and each > 0 for each in fixed):
        if size not in (None, tuple(fixed)):
            raise must(".size", f"null, as the graph takes {fixed[0]}×{fixed[1]} alone", stated.size)
        size = (fixed[0], fixed[1])
    mean, std = list(stated.mean or (0.0,)), list(stated.std or (1.0,))
    if max(*mean, *std) > 1:  # of bytes
        mean, std = [each / FULL for each in mean], [each / FULL for each in std]
    normalise = Normalise(mean, std, channels or ours)
    whole = np.issubdtype(kinds[name], np.integer)
    scale = float(stated.scale) if stated.scale is not None else FULL if whole else 1.0
    told += f", {layout}, (x − {_short(mean)}) / {_short(std)} · {scale:g} of x in [0, 1]"
    return Feed(taken, batch, told, layout, size, channels, normalise, scale)


def _names(graph: Mapping[str, Any], spec: Spec, asked: str | Mapping[str, str] | None) -> dict[str, str]:
    """The graph's inputs, each with the part of a sample that goes there."""
    if isinstance(asked, str) or (asked is None and not spec.parts and len(graph) == 1):
        asked = {asked if isinstance(asked, str) else next(iter(graph)): ""}
    if asked is None:
        asked = {
            name: part
            for name in graph
            for part in spec.parts
            if part == name or part in PARTS.get(name, ()) or name == f"input_{part}"
        }
    missing, parts = sorted(set(graph) - set(asked)), spec.parts or ("",)
    if missing or set(asked) - set(graph) or not set(asked.values()) <= set(parts):
        got = Phrase(f"{dict(asked)} for its inputs {', '.join(graph)} and {spec}")
        hint = "Write which part of a sample goes where: '{}={input_ids: ids, attention_mask: mask}'."
        raise must(
            ".input", "an input of the graph, or a mapping of all of them to the parts of a sample", got, hint, ".input"
        )
    return dict(asked)


def _kind(taken: Any) -> type:
    kind = str(taken.type).removeprefix("tensor(").removesuffix(")")
    if kind not in TYPES:
        raise must(".path", f"a graph that takes one of {', '.join(TYPES)}", f"{taken.name}: {taken.type}")
    return TYPES[kind]


def _short(values: list[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else str([round(value, 4) for value in values])
