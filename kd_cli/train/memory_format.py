"""In which order the weights and images of convolutions lie in memory. The result is the same but for its last bits."""

from collections.abc import Sequence

import torch
from torch import nn

from kd_cli.measure.flops import Convolution

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
FORMATS = ("auto", *LAYOUTS)
# With 8 channels and more, channels last trained 1.1 to 2.4 × as fast as contiguous (kd's networks and torchvision's
# small ones, float32, AVX2 and AVX-512); with 4, 1.1 to 1.7 × as fast, and it answered 0.9 to 1.8 × as fast. Fewer than
# fill a register of AVX2 are not safe either: there the kernel of torch 2.6 to 2.14 (oneDNN to 3.12) for the weights'
# gradient of a 1×1 convolution with a stride writes beyond its buffer, or gives a wrong gradient.
FEW = 8


def chosen_memory_format(asked: str, convolutions: Sequence[Convolution]) -> str:
    """Return the layout's name for a network of these convolutions: the one asked for, or for `auto` channels last
    where that gains, and where torch computes with it rightly on every processor.
    """
    if asked != "auto":
        return asked
    flat = [each for each in convolutions if len(each.kernel) == 2]
    wide = any(each.channels >= FEW for each in flat)
    unsafe = any(each.kernel == (1, 1) and max(each.stride) > 1 and each.reads < FEW for each in flat)
    return "channels_last" if wide and not unsafe else "contiguous"


def compiled(model: nn.Module, memory_format: str) -> nn.Module:
    """Return the model compiled by torch in a way that leaves the layout as it is: on a CPU it would choose channels
    last for itself.
    """
    if memory_format == "channels_last":
        return torch.compile(model)  # type: ignore[return-value]
    return torch.compile(model, options={"layout_optimization": False})  # type: ignore[return-value]
