"""A network for images out of a library, behind the inputs that it was made for."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.errors import must
from kd_cli.models.normalise import Normalise
from kd_cli.ranges import is_whole

MODES = ("nearest", "bilinear", "bicubic")


class Fitted(nn.Module):
    """The network behind its own input size and normalisation; grey images are repeated over the colours.

    `size` is one number or height and width, None where images keep theirs; `classes` are the names of its outputs, if
    whoever published it named them.
    """

    def __init__(
        self,
        network: nn.Module,
        normalise: Normalise,
        size: int | Sequence[int] | None,
        interpolation: str = "bilinear",
        classes: Sequence[str] | None = None,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.network, self.normalise, self.channels = network, normalise, channels
        self.size, self.interpolation = size_of(size), interpolation
        self.classes = None if classes is None else tuple(classes)
        if interpolation not in MODES:
            raise must(".model.interpolation", f"one of {', '.join(MODES)}", interpolation)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[N, outputs]` of images in [0, 1]."""
        if images.shape[1] == 1 != self.channels:
            images = images.expand(-1, self.channels, -1, -1)
        if self.size is not None and images.shape[-2:] != self.size:
            smooth = self.interpolation != "nearest"
            images = F.interpolate(images, self.size, mode=self.interpolation, antialias=smooth)
            if self.interpolation == "bicubic":
                images = images.clamp(0, 1)  # it overshoots at edges, and bytes cannot
        logits: Any = self.network(self.normalise(images))
        return logits if isinstance(logits, Tensor) else logits.logits  # some wrap theirs, in more than one form


def size_of(size: Any) -> tuple[int, int] | None:
    """Return height and width of `.model.size`: of one number or two, or None."""
    if size is None:
        return None
    pair = [size, size] if isinstance(size, int) else list(size) if isinstance(size, Sequence) else []
    if len(pair) != 2 or isinstance(size, str) or not all(is_whole(each, 1) for each in pair):
        raise must(".model.size", "a whole number ≥ 1, [height,width] or null", size)
    return pair[0], pair[1]
