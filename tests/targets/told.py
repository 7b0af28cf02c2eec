"""A teacher whose logits tell sample, class and view."""

import torch
from torch import Tensor

from kd_cli.data.samples import Split


def tell(split: Split, view: int, positions: Tensor | None = None, classes: int = 6) -> Tensor:
    """A teacher whose logits name sample and view: max-centred and exact in float16."""
    index = split.index if positions is None else split.index[positions]
    logits = torch.zeros(len(index), classes)
    logits[:, 1], logits[:, 2] = -index.float(), -1.0 - view
    return logits
