"""Augmentation as a pure function of (sample, parameters), the parameters of (seed, view, sample index).

The parameters come from integer hashing, not from a generator: view k of sample i is the same pixels whenever, on
whatever device and in whatever batch it is asked for. That is what lets soft targets be stored for augmented images.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.errors import must

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(value: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014) on int64, whose products wrap as uint64's do."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ ((value >> shift) & ((1 << (64 - shift)) - 1))) * _signed(factor)
    return value ^ ((value >> 31) & ((1 << 33) - 1))


def uniform(index: Tensor, seed: int, view: int, draws: int) -> Tensor:
    """`draws` numbers in [0, 1) for each sample, float64-exact multiples of 2⁻²⁴ in float32, `[draws, n]`."""
    golden = 0x9E3779B97F4A7C15
    key = torch.tensor([_signed((seed * 0xD1342543DE82EF95 + (view + 1) * golden) & _MASK)], dtype=torch.int64)
    base = _mix(_mix(key).to(index.device) + index)
    steps = torch.tensor([[_signed(k * golden & _MASK)] for k in range(1, draws + 1)], device=index.device)
    return ((_mix(base + steps) >> 40) & ((1 << 24) - 1)).to(torch.float32) / (1 << 24)


class Augment(Protocol):
    """Changes uint8 images `[n, channels, height, width]`, given each sample's index; keeps dtype and shape."""

    def __call__(self, images: Tensor, index: Tensor, seed: int, view: int) -> Tensor:
        """View `view` of these samples."""
        ...


class Shift:
    """Translation by up to `pixels` whole pixels in each direction, filled with zeros, and a mirror image half the time
    with `flip`.

    All distances are equally likely, or with `triangular` the short ones more so: the sum of two even draws. `Shift(4,
    flip=True)` is the random crop with padding 4 that is usual on CIFAR; `Shift(2)` the jitter of Hinton, Vinyals and
    Dean (2015, section 3).
    """

    def __init__(self, pixels: int, flip: bool = False, triangular: bool = False) -> None:
        if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 0:
            raise must("augment.pixels", "a whole number ≥ 0", pixels)
        self.pixels, self.flip = pixels, flip
        self.reaches = (pixels - pixels // 2, pixels // 2) if triangular else (pixels, 0)

    def __call__(self, images: Tensor, index: Tensor, seed: int, view: int) -> Tensor:
        """A window of the padded images, for each image its own."""
        draw = uniform(index, seed, view, 5)
        if self.flip:
            images = torch.where(draw[0][:, None, None, None] < 0.5, images.flip(3), images)
        corner = (draw[1:3] * (2 * self.reaches[0] + 1)).long() + (draw[3:5] * (2 * self.reaches[1] + 1)).long()
        return _window(F.pad(images, (self.pixels,) * 4), corner, *images.shape[2:])


def _window(padded: Tensor, corner: Tensor, height: int, width: int) -> Tensor:
    """The rectangle of each image whose upper left corner is at `corner` (int64 `[2, n]`: row, column)."""
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: [n, channels, rows, columns, height, width]
    return windows[torch.arange(len(padded), device=padded.device), :, corner[0], corner[1]]


class ResizedCrop:
    """A random rectangle of `scale` of the area, scaled to the whole image (Szegedy et al. 2015), and a mirror image
    half the time where `flip` is set.
    """

    def __init__(self, scale: tuple[float, float] = (0.08, 1.0), flip: bool = True) -> None:
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise must("augment.scale", "two shares of the area, 0 < low ≤ high ≤ 1", list(scale))
        self.scale, self.flip = tuple(scale), flip

    def __call__(self, images: Tensor, index: Tensor, seed: int, view: int) -> Tensor:
        """Bilinear sampling at the rectangle's grid."""
        draw = uniform(index, seed, view, 5)
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * draw[0]
        widest = area.reciprocal().clamp(max=4 / 3).log()  # between 3:4 and 4:3, as far as the rectangle fits
        aspect = ((draw[1] * 2 - 1) * widest).exp()
        width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
        mirror = torch.where(draw[4] < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(width)
        theta = torch.zeros(len(images), 2, 3, device=images.device)
        theta[:, 0, 0], theta[:, 1, 1] = width * mirror, height
        theta[:, 0, 2], theta[:, 1, 2] = (1 - width) * (2 * draw[2] - 1), (1 - height) * (2 * draw[3] - 1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        sampled = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        return sampled.round().clamp(0, 255).to(torch.uint8)
