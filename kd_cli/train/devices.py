"""What a training runs on. Whatever there is to know of several processes is known here."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


class Devices(Protocol):
    """The device of this process, and the other processes that take part in one training, if there are any.

    Rank logic lives here: a training asks how its module is called, how its gradients come and what all have counted.
    """

    @property
    def device(self) -> torch.device:
        """What this process computes on."""
        ...

    def prepare(self, module: nn.Module) -> nn.Module:
        """Return the module as its forward pass is to be called in training."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of the mean over all processes of a scalar loss."""
        ...

    def sum(self, counted: Tensor) -> Tensor:
        """Return the sum over all processes."""
        ...


@dataclass(frozen=True)
class OneDevice:
    """A process that trains by itself."""

    device: torch.device

    def prepare(self, module: nn.Module) -> nn.Module:
        """Return the module itself."""
        return module

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        loss.backward()

    def sum(self, counted: Tensor) -> Tensor:
        """Return what this process has counted."""
        return counted
