"""Gaussian noise instead of images: the transfer set that knows nothing, the lower bound of any other."""

import torch

from kd_cli import ranges
from kd_cli.data.resident import Resident
from kd_cli.data.samples import UNLABELLED, Dataset
from kd_cli.data.splits import LARGEST_IMAGE, MOST_SAMPLES, fingerprint, whole
from kd_cli.errors import must

LARGEST = 1 << 31  # bytes
DRAWN = 1 << 28  # numbers at a time


def noise(
    samples: int = 10_000,
    channels: int = 1,
    height: int = 28,
    width: int = 28,
    mean: float = 0.5,
    std: float = 0.25,
    seed: int = 0,
) -> Dataset:
    """Unlabelled images whose pixels are drawn from a normal distribution, in units of the pixels' range [0, 1] and cut
    off at its ends. There are no classes and no test images: it serves as `transfer.dataset` alone.
    """
    sizes = {"samples": samples, "channels": channels, "height": height, "width": width}
    for key, value in sizes.items():
        ranges.whole_number(f".dataset.{key}", value, 1)
    if channels * height * width > LARGEST_IMAGE:
        numbers = channels * height * width
        raise must(".dataset.channels × dataset.height × dataset.width", f"at most {LARGEST_IMAGE:,}", numbers)
    if samples * channels * height * width > LARGEST:
        raise must(".dataset.samples", f"such that the images take at most {LARGEST >> 30} GiB", samples)
    if samples > MOST_SAMPLES:
        raise must(".dataset.samples", f"at most {MOST_SAMPLES:,}", samples)
    ranges.number(".dataset.mean", mean, at_least=0, at_most=1)
    ranges.number(".dataset.std", std, above=0, at_most=1)
    ranges.whole_number(".dataset.seed", seed, 0)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.empty(samples, channels, height, width, dtype=torch.uint8)
    for block in pixels.split(max(1, min(1024, DRAWN // pixels[0].numel()))):
        drawn = torch.randn(block.shape, generator=generator)
        block.copy_(drawn.mul_(std * 255).add_(mean * 255).round_().clamp_(0, 255))
    split = whole(Resident(pixels), torch.full((samples,), UNLABELLED))
    nothing = split.select(torch.empty(0, dtype=torch.int64))
    return Dataset("noise", nothing, None, split, nothing, (), split.samples.spec, fingerprint(split))
