import pytest
import torch


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (30, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
