"""Mixtures of two images: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

The partner of a sample and the share λ are hashed from (seed, view, sample index) like every other parameter, so that
the stored targets, their replay, an online teacher and the student all see one mixture. The partner is another sample
of the split, as the same view shows it.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from kd_cli.data.augment import Augment, uniform
from kd_cli.errors import must
from kd_cli.ranges import number

QUANTILES = 4096


class Mix(ABC):
    """Mixes each image with a partner's, both augmented by `inner` first.

    λ, the sample's own share, is one of 4096 equally likely quantiles of Beta(α, α), rounded to a multiple
    of 2⁻¹⁶: a mixture of bytes is then exact in float32, and hence the same on every device. `concentration` is α.
    """

    kind = "image"

    def __init__(self, concentration: float = 1.0, inner: Augment | None = None) -> None:
        number(".augment.concentration", concentration, above=0)
        if isinstance(inner, Mix):
            hint = "A mixture is of two images."
            raise must(".augment.inner", "null or an augmentation of single images", type(inner).__name__, hint)
        from scipy.special import betaincinv  # here, for it takes 0.15 s to import

        self.inner = inner
        levels = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
        shares = torch.as_tensor(betaincinv(concentration, concentration, levels.numpy()))
        self.shares = (shares * 2**16).round().div(2**16).float()

    def draw(self, index: Tensor, seed: int, view: int) -> tuple[Tensor, Tensor, Tensor]:
        """For the N samples of a split their partners' positions, λ, and two more numbers in [0, 1), `[2, N]`.

        The seeds below zero are the mixtures': λ must have nothing to do with the draws of `inner`.
        """
        draw, n = uniform(index, ~seed, view, 4), len(index)
        further = 1 + (draw[0] * (n - 1)).long()
        partners = (torch.arange(n, device=index.device) + further) % n
        return partners, self.shares.to(index.device)[(draw[1] * QUANTILES).long()], draw[2:]

    @abstractmethod
    def blend(self, images: Tensor, others: Tensor, share: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixtures of uint8 images and of their partners', and the share that the former have in them,
        `[n]`.
        """


class Mixup(Mix):
    """λ · image + (1 − λ) · partner, rounded to whole bytes."""

    def blend(self, images: Tensor, others: Tensor, share: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return the convex combination."""
        mixed = others.float().lerp_(images.float(), share[:, None, None, None])
        return mixed.round_().to(torch.uint8), share


class CutMix(Mix):
    """A rectangle of 1 − λ of the area comes from the partner, centred anywhere and clipped at the border.

    The share is that of the pixels that remain.
    """

    def blend(self, images: Tensor, others: Tensor, share: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image with the partner's rectangle in it."""
        rows, columns = (self._inside(side, share, where) for side, where in zip(images.shape[2:], place, strict=True))
        cut = rows[:, None, :, None] * columns[:, None, None, :]
        kept = 1 - rows.sum(1) * columns.sum(1) / (rows.shape[1] * columns.shape[1])
        return (others - images).mul_(cut).add_(images), kept  # modulo 256, where it is exact

    @staticmethod
    def _inside(side: int, share: Tensor, where: Tensor) -> Tensor:
        """1 where a pixel of this side is cut, uint8 `[n, side]`."""
        length = ((1 - share).sqrt() * side).long()
        low = (where * side).long() - length // 2
        pixel = torch.arange(side, device=share.device)
        return ((pixel >= low[:, None]) & (pixel < (low + length)[:, None])).to(torch.uint8)
