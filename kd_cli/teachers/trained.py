"""A teacher that kd trains itself, by cross-entropy on the training split."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from kd_cli.data.augment import Augment
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Dataset
from kd_cli.ranges import whole_number
from kd_cli.teachers.identity import weights_of
from kd_cli.teachers.source import Loader, Single
from kd_cli.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Trained(Single):
    """`seed` governs initialisation, order, dropout and augmentation."""

    model: Callable[..., nn.Module]
    train: Recipe
    augment: Augment | Mix | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number(".seed", self.seed, 0, remedy="On a shell, quote a reference: '{}=${seed}'.")

    def network(self, dataset: Dataset, load: Loader) -> nn.Module:
        """Return the network before its training."""
        return self.model(num_classes=len(dataset.classes), **dataset.arguments(self.model))

    def identity(self, network: nn.Module) -> dict[str, str]:
        """Return its weights; the structure stands in the config of its model."""
        return weights_of(network)
