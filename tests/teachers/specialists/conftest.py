import pytest
import torch

from kd_cli.data.resident import Resident
from kd_cli.data.samples import Split
from kd_cli.data.splits import whole

SHAPE = (1, 2, 2)


@pytest.fixture
def split() -> Split:
    """120 samples, sample i of class i mod 6 with the byte i."""
    pixels = torch.arange(120, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *SHAPE)
    return whole(Resident(pixels), torch.arange(120) % 6)
