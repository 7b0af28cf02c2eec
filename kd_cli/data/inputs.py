"""What a network is shown: one tensor, or several by their names, a row of each for a sample."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Inputs = Tensor | Mapping[str, Tensor]


def tensors(inputs: Inputs) -> list[Tensor]:
    """Return its tensors, in the order of their names."""
    return [inputs] if isinstance(inputs, Tensor) else [inputs[name] for name in sorted(inputs)]


def each(inputs: Inputs, make: Callable[[Tensor], Tensor]) -> Inputs:
    """Return what `make` makes of each tensor, under the same names: a slice, a copy on another device."""
    return make(inputs) if isinstance(inputs, Tensor) else {name: make(value) for name, value in inputs.items()}


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Return the samples of these parts, one after the other."""
    if isinstance(parts[0], Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    named = [part for part in parts if not isinstance(part, Tensor)]
    return {name: torch.cat([part[name] for part in named]) for name in parts[0]}


def count(inputs: Inputs) -> int:
    """Return the number of samples."""
    return len(tensors(inputs)[0])


def rows(inputs: Inputs, chosen: slice | Tensor) -> Inputs:
    """Return the samples of a slice, or at these positions."""
    return each(inputs, lambda value: value[chosen])
