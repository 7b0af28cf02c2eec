"""Dropout (Srivastava et al. 2014) that draws 16 random bits for each unit.

On the CPU torch draws a double for each, which takes a third of the training step of a 2 × 1200 network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Zeroes each value with probability `p`, to within 2⁻¹⁶, and scales the others up; nothing in eval mode."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape and type."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        words = torch.empty(x.numel() // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
        draws = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (draws >= min(round(self.p * 2**16), 2**16 - 1) - 2**15).to(x.dtype)
        return x * kept.mul_(1 / (1 - self.p))
