"""Where the steps of a run are done."""

from dataclasses import dataclass
from typing import Any

import torch

from kd_cli.data.samples import Dataset
from kd_cli.runs.circumstances import Circumstances
from kd_cli.runs.run import Run
from kd_cli.runs.session import Session
from kd_cli.store.artifacts import Store


@dataclass(frozen=True)
class Setting:
    """The data set, with the config that a stored model names it by; the circumstances; the record of the run; and what
    its process shares.
    """

    dataset: Dataset
    dataset_config: dict[str, Any]
    circumstances: Circumstances
    run: Run
    session: Session
    latency: bool = True  # whether it is measured where a model is evaluated

    @property
    def device(self) -> torch.device:
        """What is computed on."""
        return self.circumstances.device

    @property
    def store(self) -> Store:
        """Where results lie."""
        return self.run.store
