"""The pixels of a split, decoded where they must be."""

import torch

from kd_cli.data.samples import Split

CPU = torch.device("cpu")


def pixels_of(split: Split) -> torch.Tensor:
    return next(split.samples.stream([torch.arange(len(split))], CPU))
