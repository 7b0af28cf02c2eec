"""A network out of a library, as it was published: asked about its own classes, and not trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kd_cli.data.samples import Dataset
from kd_cli.errors import KdError, must
from kd_cli.models.chosen import Chosen
from kd_cli.teachers.classes import outputs_of
from kd_cli.teachers.identity import weights_of
from kd_cli.teachers.source import Loader, Single


@dataclass(frozen=True, kw_only=True)
class Published(Single):
    """`name` is the model's, in its library or its folder; None where the model says it. `classes` names its outputs in
    their order, or says by which of their names each class of the data set goes; without it they are found by the names
    that it was published with.
    """

    model: Callable[..., nn.Module]
    name: str | None = None
    classes: Sequence[str] | Mapping[str, str] | None = None

    def network(self, dataset: Dataset, load: Loader) -> nn.Module:
        """Return the network with its published weights, its logits in the order of the data set's classes."""
        named = {} if self.name is None else {"name": self.name}
        with self.keys():
            network: Any = self.model(num_classes=None, **named, **dataset.arguments(self.model))
        own = getattr(network, "classes", None)
        count = len(own) if own else _outputs(network, dataset)
        order = outputs_of(self.classes, own, count, dataset)
        return network if order == list(range(count)) else Chosen(network, order, count)

    def described(self, model: dict[str, Any]) -> dict[str, Any]:
        """Return the config of its model, with the name that the teacher gives it."""
        return model if self.name is None else {**model, "name": self.name}

    @contextmanager
    def keys(self) -> Iterator[None]:
        """Within it, what is said of the model's name is said of the teacher's."""
        try:
            yield
        except KdError as error:
            error.key, *error.keys = (_of_teacher(key) for key in (error.key, *error.keys))
            raise

    def identity(self, network: nn.Module) -> dict[str, Any]:
        """Return its weights, and which of its outputs are asked; the structure stands in the config of its model."""
        return weights_of(network)


def _of_teacher(key: str) -> str:
    return ".name" if key == ".model.name" else key


def _outputs(network: nn.Module, dataset: Dataset) -> int:
    """How many outputs a network has that does not name them."""
    with torch.no_grad():
        shape: tuple[int, ...] = tuple(network.eval()(dataset.spec.blank(1)).shape)
    if len(shape) != 2:
        raise must(".model", "a network that gives a number for each class", list(shape))
    return shape[1]
