"""What every teacher has: what gives its logits, and whether that is asked anew in every step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kd_cli.data.samples import Dataset
from kd_cli.errors import must
from kd_cli.teachers.identity import network_of
from kd_cli.teachers.teacher import Answering

Loader = Callable[[Path], tuple[nn.Module, dict[str, Any]]]  # folder → a stored model and its description


@dataclass(frozen=True, kw_only=True)
class Source:
    """A teacher. With `online` it runs on the student's own augmented batch, instead of once over stored views."""

    online: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.online, bool):
            raise must(".online", "true or false", self.online)


class Single(Source, ABC):
    """A teacher of one network. Its parameters may have any names."""

    @abstractmethod
    def network(self, dataset: Dataset, load: Loader) -> nn.Module:
        """Return the network, giving logits `[N, classes]` in the order of the data set's classes."""

    def identity(self, network: nn.Module) -> dict[str, Any]:
        """Return what determines the answers of `network`, which this teacher gave, in plain values. kd adds the config
        and the sources of the teacher; where all are equal, the answers stored are those of this one.

        By default it is the network's weights and structure. Answers that come from elsewhere state that: the digest
        of a file, the address, model and revision of a service. Raises Opaque where it cannot be told.
        """
        return network_of(network)


class Answered(Source, ABC):
    """A teacher that is known by its answers alone: no network of it is here. Its parameters may have any names."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.online:
            rule = "false for a teacher without a network, whose answers are stored once"
            raise must(".online", rule, self.online)

    @abstractmethod
    def open(self, dataset: Dataset, root: Path) -> Answering:
        """Return what answers for the samples of this data set, ready to be asked; `root` is the output folder, where
        it may keep what it was told. Raises ConfigError, before any work, for what could not be used.
        """
