"""Input normalisation as the first layer of a model, so that teacher and student may differ in it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd_cli.errors import Phrase, must
from kd_cli.ranges import is_whole


class Normalise(nn.Module):
    """(inputs − mean) / std for each channel, the first of a sample's `dimensions`; images are float in [0, 1],
    `[N, channels, height, width]`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: int, dimensions: int = 3) -> None:
        super().__init__()
        for key, values in (("mean", mean), ("std", std)):
            numbers = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else None
            if numbers is None or len(numbers) not in (1, channels):
                rule = f"one number, or one for each of {channels} channel(s)"
                raise must(f".model.{key}", rule, values if numbers is None else numbers)
        if not all(value > 0 for value in std):
            raise must(".model.std", "> 0", list(std))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, *[1] * (dimensions - 1)))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, *[1] * (dimensions - 1)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalised inputs."""
        return (inputs - self.mean) / self.std


def of_images(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width; ConfigError where inputs are none of images."""
    if len(input_shape) != 3:
        raise must(".model", f"a network for inputs of shape {list(input_shape)}", Phrase("one for images"))
    channels, height, width = input_shape
    return channels, height, width


def widths_of(key: str, widths: Sequence[int]) -> list[int]:
    """Return these layer widths, checked."""
    if isinstance(widths, str) or not isinstance(widths, Sequence):
        raise must(key, "a list of whole numbers ≥ 1", widths)
    if not all(is_whole(units, 1) for units in widths):
        raise must(key, "a list of whole numbers ≥ 1", list(widths))
    return list(widths)
