"""A teacher from elsewhere: a state dict, in safetensors or written by `torch.save`."""

import tarfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kd_cli.data.inputs import Inputs
from kd_cli.data.samples import Dataset
from kd_cli.data.splits import same_form
from kd_cli.errors import ArtifactError, Phrase, must
from kd_cli.store.tensor_header import header_of
from kd_cli.teachers.identity import weights_of
from kd_cli.teachers.memory import little_more
from kd_cli.teachers.source import Loader, Single

TIMES, SLACK = 4, 1 << 29  # of a checkpoint's own bytes, and beside them: what reading it may take of memory


class _Selected(nn.Module):
    """A network's logits in the order of other classes."""

    order: Tensor

    def __init__(self, network: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("order", torch.tensor(order))

    def forward(self, inputs: Inputs) -> Tensor:
        logits: Tensor = self.network(inputs)
        return logits[:, self.order]


@dataclass(frozen=True, kw_only=True)
class Pretrained(Single):
    """`classes` names the checkpoint's outputs in their order; without it they are the data set's classes."""

    model: Callable[..., nn.Module]
    path: str
    classes: Sequence[str] | None = None

    def network(self, dataset: Dataset, load: Loader) -> nn.Module:
        """The network with the checkpoint's weights."""
        names = [same_form(str(name)) for name in (self.classes or dataset.classes)]
        if missing := [name for name in dataset.classes if name not in names]:
            raise must(
                ".classes",
                f"a list that holds every class of dataset={dataset.name}",
                names,
                f"Missing: {missing}.",
            )
        if len(set(names)) != len(names):
            raise must(".classes", "a list without repetition", names)
        network = self.model(num_classes=len(names), **dataset.arguments(self.model))
        _fill(network, read_state_dict(Path(self.path)), self.path)
        if names == list(dataset.classes):
            return network
        return _Selected(network, [names.index(name) for name in dataset.classes])

    def identity(self, network: nn.Module) -> dict[str, str]:
        """Its weights; the structure stands in the config of its model."""
        return weights_of(network)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name. A `.pt` file is read with `weights_only=True`: it cannot run code."""
    if not path.is_file():
        got = Phrase(f"{str(path)!r}, no file")
        raise ArtifactError.must(".path", "a checkpoint (.safetensors, .pt or .pth)", got)
    try:
        with little_more(TIMES * path.stat().st_size + SLACK):
            state: Any = _read(path)
    except Exception as error:  # the unpickler raises whatever the bytes lead it to
        rule = "a checkpoint that holds tensors alone (.safetensors, or .pt that loads with weights_only=True)"
        raise ArtifactError.must(".path", rule, str(path)) from error
    for wrapper in ("state_dict", "model", "model_state_dict"):  # the usual names of a state dict inside a checkpoint
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(_is_plain(value) for value in state.values()):
        got = Phrase(f"another format in {str(path)!r}")
        raise ArtifactError.must(".path", "a state dict (names and tensors)", got)
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _read(path: Path) -> Any:
    """What a file holds; ValueError where a zip claims to hold more than its bytes, which torch writes as they are."""
    if path.suffix == ".safetensors":
        header_of(path)
        return load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            if sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
                raise ValueError("it unpacks to more than it is")
    elif _is_tar(path):  # torch would extract what wrote it in 2016
        raise ValueError("it is an archive")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch recommends weights_only=False, which would run the file's code
        return torch.load(path, map_location="cpu", weights_only=True)


def _is_tar(path: Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except tarfile.TarError:
        return False
    return True


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_quantized or value.is_meta)


def _fill(network: nn.Module, state: dict[str, Tensor], path: str) -> None:
    """Loads the weights; lists every key that is missing, unexpected or of another shape. The input normalisation
    (`mean`, `std`) comes from the config where the checkpoint has none.
    """
    ours = network.state_dict()
    own = {name for name in ours if name.rpartition(".")[2] in ("mean", "std")}
    missing = sorted(set(ours) - set(state) - own)
    unexpected = sorted(set(state) - set(ours))
    shapes = [
        f"{name} {list(state[name].shape)} instead of {list(ours[name].shape)}"
        for name in sorted(set(ours) & set(state))
        if state[name].shape != ours[name].shape
    ]
    problems = [
        f"{title}: {', '.join(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if problems:
        keys = f"Keys {'; '.join(problems)}."
        raise ArtifactError(f"{{}}={path} does not fit {{}}.", keys, ".path", ".model")
    network.load_state_dict(state, strict=False)
