"""A teacher from elsewhere: a state dict, in safetensors or written by `torch.save`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from kd_cli.data.samples import Dataset
from kd_cli.data.splits import same_form
from kd_cli.errors import ArtifactError, KdError, Phrase, must, reading
from kd_cli.models.chosen import Chosen
from kd_cli.progress import log
from kd_cli.store.foreign_file import read_weights
from kd_cli.store.matching import match, misfit
from kd_cli.teachers.identity import weights_of
from kd_cli.teachers.source import Loader, Single


@dataclass(frozen=True, kw_only=True)
class Pretrained(Single):
    """`classes` names the checkpoint's outputs in their order, or a text file with a name a line; without it they are
    the data set's classes. `part` is the entry, or what its names begin with, of a file that holds several networks.
    """

    model: Callable[..., nn.Module]
    path: str
    classes: Sequence[str] | str | None = None
    part: str | None = None

    def network(self, dataset: Dataset, load: Loader) -> nn.Module:
        """Return the network with the checkpoint's weights."""
        names = self._names(dataset)
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
        _fill(network, read_weights(Path(self.path), part=self.part), self.path, len(names))
        if names == list(dataset.classes):
            return network
        return Chosen(network, [names.index(name) for name in dataset.classes], len(names))

    def identity(self, network: nn.Module) -> dict[str, str]:
        """Return its weights; the structure stands in the config of its model."""
        return weights_of(network)

    def _names(self, dataset: Dataset) -> list[str]:
        """The classes of its outputs."""
        given: Sequence[object] = self.classes or dataset.classes
        if isinstance(given, str):
            with reading(given):
                try:
                    given = Path(given).read_text("utf-8-sig").splitlines()
                except UnicodeDecodeError:
                    raise must(".classes", "a list, or a text file with a name a line", given) from None
            given = [str(line).strip() for line in given if str(line).strip()]
        return [same_form(str(name)) for name in given]


def _fill(network: nn.Module, state: Mapping[str, Tensor], path: str, classes: int) -> None:
    """Loads the weights; lists every key that is missing, unexpected or of another shape. The input normalisation
    (`mean`, `std`) comes from the config where the checkpoint has none.
    """
    ours = network.state_dict()
    try:
        found = match(network, state, classes)
    except KdError as error:
        got = Phrase(f"{path!r}: {error.said}")
        raise ArtifactError.must(".path", "a file with one network for {}", got, "Choose one: {}=…", ".part") from error
    if found.head and not (found.missing or found.unexpected or found.shapes):
        theirs = len(found.tensors[found.head[0]])
        raise ArtifactError(
            f"{{}}={path} has outputs for {theirs} classes, {classes} are wanted.",
            f"Name its classes in the order of its outputs: {{}}=[…], or a text file with a name a line. Or train "
            f"further from it, with a new output layer: teacher=<one that is trained> {{}}={path}.",
            *(".path", ".classes", ".train.start_from"),
        )
    if problems := misfit(found, state, ours):
        raise ArtifactError(f"{{}}={path} does not fit {{}}.", f"Keys {problems}.", ".path", ".model")
    if found.outside:
        log.info("%s: left out, for they are no part of the network: %s", path, ", ".join(found.outside))
    network.load_state_dict(found.tensors, strict=False)
