"""What every teacher has: networks that give logits, and whether they are asked anew in every step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kd_cli.errors import must
from kd_cli.types import Dataset

Loader = Callable[[Path], tuple[nn.Module, dict[str, Any]]]  # folder → a stored model and its description


@dataclass(frozen=True, kw_only=True)
class Source:
    """A teacher. With `online` it runs on the student's own augmented batch, instead of once over stored views."""

    online: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.online, bool):
            raise must("teacher.online", "true or false", self.online)


class Single(Source, ABC):
    """A teacher of one network."""

    @abstractmethod
    def network(self, dataset: Dataset, load: Loader) -> nn.Module:
        """The network, giving logits `[N, classes]` in the order of the data set's classes."""
