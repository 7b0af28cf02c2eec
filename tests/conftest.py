import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ.pop("COLUMNS", None)  # pytest's workers have one: tables would take it for the width of a screen

import pytest
import torch
from torch import Tensor, nn

from kd_cli.cli import schema
from kd_cli.data.resident import Resident
from kd_cli.data.samples import Dataset, Split
from kd_cli.datasets.digits import digits as load_digits
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import constant

CPU = torch.device("cpu")
schema.register()  # for tests that compose a config themselves


@dataclass(frozen=True)
class Named:
    """A transfer set whose images name their sample: every pixel of sample i holds the byte i."""

    samples: int = 41

    @property
    def split(self) -> Split:
        pixels = torch.arange(self.samples, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 3, 3)
        return Split(Resident(pixels), torch.arange(self.samples) % 4, torch.arange(self.samples) * 7 + 3)

    @staticmethod
    def of(images: Tensor) -> Tensor:
        """Which samples these float images in [0, 1] are."""
        return (images[:, 0, 0, 0] * 255).round().long()


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """A test that changes the number of threads leaves it as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def unprivileged() -> Callable[[Path], AbstractContextManager[None]]:
    """A context in which permissions count, as they do not for root: the folder and those above it can be entered."""

    @contextmanager
    def without(folder: Path) -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        opened = [(above, above.stat().st_mode) for above in (folder, *folder.parents)]
        for above, mode in opened:
            if not mode & 0o001:
                above.chmod(mode | 0o011)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
            for above, mode in opened:
                if not mode & 0o001:
                    above.chmod(mode)

    return without


@pytest.fixture
def named() -> Named:
    return Named()


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_digits(validation=100)


@pytest.fixture
def few(digits: Dataset) -> Split:
    """150 digits: enough to learn from, and an uneven last batch at any usual batch size."""
    return digits.train.select(torch.arange(150))


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    def make(lr: float = 0.1, momentum: float = 0.9, **changes: object) -> Recipe:
        def optimizer(parameters):  # type: ignore[no-untyped-def]
            return torch.optim.SGD(parameters, lr=lr, momentum=momentum)

        return Recipe(**{"epochs": 2, "batch_size": 32, "optimizer": optimizer, "scheduler": constant} | changes)

    return make


@pytest.fixture
def small_net() -> Callable[..., nn.Module]:
    """An 8×8 network with dropout; the seed fixes its initial weights."""

    def make(seed: int = 0, dropout: float = 0.5) -> nn.Module:
        from kd_cli.models.mlp import mlp

        torch.manual_seed(seed)
        return mlp(10, (1, 8, 8), widths=[24], dropout=dropout)

    return make
