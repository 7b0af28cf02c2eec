"""Networks built in shape alone, so that what does not fit its weights costs no memory."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from kd_cli.errors import ArtifactError


class Shapes(TorchFunctionMode):
    """Makes tensors that are asked for by their shape in shape alone, and others, of given values, as they are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_shape = func in (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if by_shape else {})})


@contextmanager
def without_memory(tensors: int, shapes: AbstractContextManager[Any]) -> Iterator[None]:
    """Networks are built in shape alone, and refused when they have many more parameters than the file has tensors."""
    left = 2 * tensors + 100

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ArtifactError(f"the model has many more than the {tensors} tensors stored")

    hook = register_module_parameter_registration_hook(count)
    try:
        with shapes, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an initialisation that has nothing to fill
            yield
    finally:
        hook.remove()
