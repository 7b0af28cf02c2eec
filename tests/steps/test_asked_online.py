"""What an online teacher is told when it answers with no numbers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from kd_cli.data.spec import Spec
from kd_cli.errors import ArtifactError
from kd_cli.steps.plan import TargetsPlan
from kd_cli.steps.targets import asked_online


def test_its_samples_are_called_what_they_are() -> None:
    network = nn.Linear(4, 3)
    teacher: Any = SimpleNamespace(network=network, identity={}, name=None, members={})
    dataset = SimpleNamespace(spec=Spec("features", (4,)))
    setting: Any = SimpleNamespace(device=torch.device("cpu"), dataset=dataset)
    taught = asked_online(TargetsPlan("float16", None, None, 1.0, "32"), teacher, 2, setting)
    rows = torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, torch.nan]])
    with pytest.raises(ArtifactError, match=r"got NaN or infinity for 1 of 2 samples: its weights are finite"):
        taught.targets(torch.arange(2), 0, rows)
