"""A teacher in an ONNX file, computed by onnxruntime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.data.samples import Dataset
from kd_cli.errors import ArtifactError, Phrase, first_line, must
from kd_cli.extras import library
from kd_cli.files.digests import digests_of
from kd_cli.measure.prediction import predict
from kd_cli.progress import log
from kd_cli.teachers.classes import outputs_of
from kd_cli.teachers.onnx_file import Stated, files_of, learnt, stated_by
from kd_cli.teachers.onnx_session import GIVES, OnnxNetwork, feeds
from kd_cli.teachers.source import Loader, Single

LOOKED_AT = 64  # samples, by whose answers it is told what a file gives
CLOSE = 1e-3  # of the sum of probabilities to 1


@dataclass(frozen=True, kw_only=True)
class Onnx(Single):
    """`path` is a file, or `<package>:<file>` of an installed package. The other keys are about what its graph takes
    and gives; what is None is read from the graph and from what the file states, or is found out.

    An image's numbers in [0, 1] are shown as (x − mean) / std · scale. `input` names the graph's input, or says which
    part of a sample goes to which. `classes` as in `Published`.
    """

    path: str
    input: str | Mapping[str, str] | None = None
    output: str | None = None
    layout: str | None = None
    size: int | Sequence[int] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    scale: float | None = None
    gives: str | None = None
    classes: Sequence[str] | Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gives not in (None, *GIVES):
            raise must(".gives", f"null or one of {', '.join(GIVES)}", self.gives)
        if self.layout not in (None, "NCHW", "NHWC"):
            raise must(".layout", "null, NCHW or NHWC", self.layout)

    def network(self, dataset: Dataset, load: Loader) -> nn.Module:
        """Return the file's network, its logits in the order of the data set's classes."""
        path = located(self.path)
        runtime = _opened(path)
        stated = stated_by(runtime, Stated(self.layout, self.size, self.mean, self.std, self.scale))
        files = files_of(path)
        feed = feeds(runtime, dataset.spec, self.input, stated)
        session = OnnxNetwork(
            runtime, feed, _output(runtime, self.output), learnt(path), sum(f.stat().st_size for f in files)
        )
        said = predict(session, dataset.transfer, torch.device("cpu"), positions=_some(len(dataset.transfer)))
        if said.ndim != 2 or said.shape[1] < 2:
            raise must(
                ".output", "one with a number for each class", Phrase(f"{list(said.shape)} for {len(said)} samples")
            )
        session.gives = self.gives or _looks_like(said)
        order = outputs_of(self.classes, stated.classes, said.shape[1], dataset)
        session.order = None if order == list(range(said.shape[1])) else order
        session.about = {"files": list(digests_of(files, "the teacher's file").values()), **session.described()}
        found = "as asked" if self.gives else f"found out by {len(said)} {dataset.spec.noun}"
        taken = (
            "" if session.gives == "logits" else ", whose logarithms are" if session.gives == "probabilities" else ""
        )
        log.info(
            "%s: takes %s; gives %s (%s)%s",
            path.name,
            feed.said,
            session.gives,
            found,
            f"{taken} taken" if taken else "",
        )
        return session

    def identity(self, network: nn.Module) -> dict[str, Any]:
        """Return the file's content, and what is made of its inputs and outputs."""
        assert isinstance(network, OnnxNetwork)
        return network.about


def located(path: str) -> Path:
    """Return the file of a path; ArtifactError where there is none. `<package>:<file>` lies in an installed package."""
    file = Path(path).expanduser()
    package, colon, inside = path.partition(":")
    if file.is_file():
        return file
    if colon and package.isidentifier() and (spec := find_spec(package)) is not None:
        for folder in spec.submodule_search_locations or ():
            if found := sorted(Path(folder).glob(inside)):
                return found[-1]
    if colon and package.isidentifier() and spec is None:
        got = Phrase(f"{path!r}, and {package} is not installed")
        raise ArtifactError.must(".path", "an ONNX file", got, f"Install it: pip install {package}.")
    raise ArtifactError.must(".path", "an ONNX file", Phrase(f"{path!r}, where there is no file"))


def _opened(path: Path) -> Any:
    runtime = library("onnxruntime", "onnx", "teacher=onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a class for each status
        got = Phrase(f"{str(path)!r}: {first_line(error)[:300]}")
        raise ArtifactError.must(".path", "an ONNX file that onnxruntime can read", got) from error


def _output(runtime: Any, name: str | None) -> str:
    """The output that is asked for, or the first that may hold a number for each class of each sample."""
    outputs = runtime.get_outputs()
    names = [each.name for each in outputs]
    if name is not None:
        if name not in names:
            raise must(".output", f"one of the graph's outputs ({', '.join(names)})", name)
        return name
    floats = [each.name for each in outputs if each.type in FLOATS and len(each.shape or [0, 0]) >= 2]
    if not floats:
        found = ", ".join(f"{each.name}: {each.type} {each.shape}" for each in outputs)
        raise must(".path", "a graph with an output of floating-point numbers [N, classes]", Phrase(found))
    return str(floats[0])


FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


def _some(count: int) -> Tensor:
    return torch.linspace(0, count - 1, min(LOOKED_AT, count)).long()


def _looks_like(said: Tensor) -> str:
    """What a network's outputs `[n, classes]` are by their values."""
    if bool((said >= 0).all()) and bool(((said.sum(1) - 1).abs() < CLOSE).all()):
        return "probabilities"
    if bool((said <= 0).all()) and bool((said.logsumexp(1).abs() < CLOSE).all()):
        return "log_probabilities"
    return "logits"
