"""How grey of more than 8 bits, and numbers that are no shades yet, become 0 … 255: by a range that is stated."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from kd_cli.errors import must
from kd_cli.ranges import is_number

KEY = ".dataset.range"
Range = Literal["image"] | Sequence[float] | None  # each image's own, [darkest, lightest], or what its header states
DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits that cameras and scanners have


class Unusable(Exception):
    """Why a file cannot be used as an image: a text that completes `<path>: …`."""


class Unscaled(Unusable):
    """Only a range is missing: the values go from `low` to `high`."""

    def __init__(self, why: str, values: np.ndarray[Any, Any]) -> None:
        super().__init__(why)
        self.low, self.high = float(values.min()), float(values.max())
        self.whole = values.dtype.kind in "iu"


def check_shades(asked: Any) -> None:
    """Raise ConfigError for what is no range."""
    pair = isinstance(asked, Sequence) and not isinstance(asked, str) and len(asked) == 2
    if asked is None or asked == "image" or (pair and all(map(is_number, asked)) and asked[0] < asked[1]):
        return
    raise must(KEY, "null, image or [<darkest value>, <lightest value>]", asked)


def scaled(values: np.ndarray[Any, Any], asked: Range) -> np.ndarray[Any, Any]:
    """Values as shades, uint8: those of a range from its darkest to its lightest value, what is outside as its ends."""
    if not np.isfinite(values).all():
        raise Unusable("NaN or infinity among its values")
    low, high = (float(values.min()), float(values.max())) if isinstance(asked, str | None) else asked
    span = (high - low) or 1.0
    return np.floor(np.clip((values.astype(np.float64) - low) / span, 0, 1) * 255 + 0.5).astype(np.uint8)


def likely(unscaled: Sequence[Unscaled]) -> list[float]:
    """Return the range that values of these images seem to be from."""
    low, high = min(each.low for each in unscaled), max(each.high for each in unscaled)
    if all(each.whole for each in unscaled) and low >= 0:
        return [0, next((2**bits - 1 for bits in DEPTHS if high < 2**bits), int(high))]
    for ends in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if ends[0] <= low and high <= ends[1]:
            return list(ends)
    return [low, high if high > low else low + 1]
