"""Augmentation as a pure function of (sample, parameters), the parameters of (seed, view, sample index).

The parameters come from integer hashing, not from a generator: view k of sample i is the same pixels whenever, on
whatever device and in whatever batch it is asked for. That is what lets soft targets be stored for augmented images.
"""

import math
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.errors import must
from kd_cli.ranges import is_number, number, whole_number

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(value: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    for shift, factor in _ROUNDS:
        value = (value ^ (value >> shift)) * factor & _WORD
    return value


def _mix_(value: Tensor) -> Tensor:
    """The same in place on int64, whose products wrap as uint64's do, and whose shifts have to be freed of the sign."""
    for shift, factor in _ROUNDS:
        value.bitwise_xor_((value >> shift).bitwise_and_((1 << (64 - shift)) - 1))
        if factor != 1:
            value.mul_(_signed(factor))
    return value


def uniform(index: Tensor, seed: int, view: int, draws: int) -> Tensor:
    """`draws` numbers in [0, 1) for each sample, float64-exact multiples of 2⁻²⁴ in float32, `[draws, n]`."""
    key = _mix((seed * 0xD1342543DE82EF95 + (view + 1) * _GOLDEN) & _WORD)
    base = _mix_(index + _signed(key))
    steps = torch.arange(1, draws + 1, device=index.device).mul_(_signed(_GOLDEN))
    words = _mix_(base + steps[:, None])
    return (words >> 40).bitwise_and_((1 << 24) - 1).to(torch.float32).mul_(2**-24)


class Augment(Protocol):
    """Changes stored samples (images: uint8 `[n, channels, height, width]`), given each one's index; keeps dtypes and
    shapes. Its attribute `kind` says for which samples it is, those of a Spec of that kind; without one it is for
    images.
    """

    def __call__(self, stored: Any, index: Tensor, seed: int, view: int) -> Any:
        """View `view` of these samples."""
        ...


def augment_name(augment: Any) -> str:
    """Return what a person calls an augmentation: its function's or its class's name."""
    return str(getattr(getattr(augment, "func", augment), "__name__", type(augment).__name__))


def kind_of(augment: Any) -> str:
    """Return the kind of samples that it is for; of a `_partial_` function that which the function states."""
    stated = getattr(augment, "kind", None) or getattr(getattr(augment, "func", None), "kind", None)
    return str(stated or "image")


def _is_range(value: object) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))
    return pair and 0 < value[0] <= value[1]  # type: ignore[index]


class Shift:
    """Translation by up to `pixels` whole pixels in each direction, filled with zeros, and a mirror image half the time
    with `flip`.

    All distances are equally likely, or with `triangular` the short ones more so: the sum of two even draws. `Shift(4,
    flip=True)` is the random crop with padding 4 that is usual on CIFAR; `Shift(2)` the jitter of Hinton, Vinyals and
    Dean (2015, section 3).
    """

    kind = "image"

    def __init__(self, pixels: int, flip: bool = False, triangular: bool = False) -> None:
        whole_number(".augment.pixels", pixels, 0)
        self.pixels, self.flip = pixels, flip
        self.reaches = (pixels - pixels // 2, pixels // 2) if triangular else (pixels, 0)

    def __call__(self, images: Tensor, index: Tensor, seed: int, view: int) -> Tensor:
        """A window of the padded images, for each image its own; mirror images lie to the right of the images."""
        draw = uniform(index, seed, view, 5)
        row, column = (draw[1:3] * (2 * self.reaches[0] + 1)).long() + (draw[3:5] * (2 * self.reaches[1] + 1)).long()
        sides = torch.stack([images, images.flip(3)] if self.flip else [images], 3)
        padded = F.pad(sides, (self.pixels, self.pixels, 0, 0, self.pixels, self.pixels))
        if self.flip:
            column += (draw[0] < 0.5) * padded.shape[4]
        return _window(padded.flatten(3), row, column, *images.shape[2:])


def _window(images: Tensor, row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """The rectangle of each image whose upper left corner is at (row, column), copied line by line."""
    n, channels, rows, columns = images.shape
    corner = (torch.arange(n, device=images.device) * (channels * rows) + row) * columns + column
    line = torch.arange(channels, device=images.device)[:, None] * rows + torch.arange(height, device=images.device)
    starts = (corner[:, None] + line.flatten() * columns).flatten()
    return images.flatten().unfold(0, width, 1).index_select(0, starts).view(n, channels, height, width)


class ResizedCrop:
    """A random rectangle of `scale` of the area, scaled to the whole image (Szegedy et al. 2015), and a mirror image
    half the time where `flip` is set.
    """

    kind = "image"

    def __init__(self, scale: tuple[float, float] = (0.08, 1.0), flip: bool = True) -> None:
        if not _is_range(scale) or scale[1] > 1:
            raise must(".augment.scale", "two shares of the area, 0 < low ≤ high ≤ 1", scale)
        self.scale, self.flip = tuple(scale), flip

    def __call__(self, images: Tensor, index: Tensor, seed: int, view: int) -> Tensor:
        """Bilinear sampling at the rectangle's grid."""
        draw = uniform(index, seed, view, 5)
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * draw[0]
        widest = area.reciprocal().clamp(max=4 / 3).log()  # between 3:4 and 4:3, as far as the rectangle fits
        aspect = ((draw[1] * 2 - 1) * widest).exp()
        width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
        mirror = torch.where(draw[4] < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(width)
        none = torch.zeros_like(width)
        centre = torch.complex((1 - width) * (2 * draw[2] - 1), (1 - height) * (2 * draw[3] - 1))
        return _resample(images, torch.complex(width * mirror, none), torch.complex(none, height), centre, "border")


class Affine:
    """A turn by up to `degrees`, a translation by up to `translate` of each side, a factor out of `scale` and a shear
    by up to `shear` degrees, evenly drawn, about the centre, filled with zeros; with `flip` half are mirror images.
    """

    kind = "image"

    def __init__(
        self,
        degrees: float,
        translate: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        shear: float = 0.0,
        flip: bool = False,
    ) -> None:
        number(".augment.degrees", degrees, at_least=0, at_most=180)
        number(".augment.translate", translate, at_least=0, at_most=1, what="a share of the side,")
        if not _is_range(scale):
            raise must(".augment.scale", "two factors, 0 < low ≤ high", scale)
        number(".augment.shear", shear, at_least=0, below=90, what="degrees")
        self.degrees, self.translate, self.scale, self.shear, self.flip = degrees, translate, scale, shear, flip

    def __call__(self, images: Tensor, index: Tensor, seed: int, view: int) -> Tensor:
        """Bilinear sampling at the places that the map takes to the pixels: its inverse, shear last."""
        height, width = images.shape[2:]
        draw = uniform(index, seed, view, 6)
        even = 2 * draw[:4] - 1
        turn, slope = even[0] * math.radians(self.degrees), (even[3] * math.radians(self.shear)).tan()
        factor = self.scale[0] + (self.scale[1] - self.scale[0]) * draw[4]
        cos, sin = turn.cos() / factor, turn.sin() / factor
        across = torch.complex(cos - slope * sin, -sin * (width / height))
        down = torch.complex((sin + slope * cos) * (height / width), cos)
        centre = (across * even[1] + down * even[2]) * (-2 * self.translate)  # a side is two units long
        if self.flip:
            across = across * torch.where(draw[5] < 0.5, -1.0, 1.0)
        return _resample(images, across, down, centre, "zeros")


def _resample(images: Tensor, across: Tensor, down: Tensor, centre: Tensor, padding: str) -> Tensor:
    """Bilinear values at `centre + x · across + y · down` for every pixel (x, y).

    The three are complex `[n]`: a real part along the width, an imaginary one along the height, both from −1 to 1.
    """
    (x, y) = ((torch.arange(1, 2 * side, 2, device=images.device) / side - 1) for side in reversed(images.shape[2:]))
    lines = centre[:, None] + down[:, None] * y
    grid = torch.view_as_real(lines[:, :, None] + (across[:, None] * x)[:, None])
    sampled = F.grid_sample(images.float(), grid, padding_mode=padding, align_corners=False)
    return sampled.round_().to(torch.uint8)  # a mean of bytes: nothing to clamp
