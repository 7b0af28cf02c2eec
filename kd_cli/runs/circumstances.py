"""What explains how a result was computed without determining what it is."""

import platform
from dataclasses import dataclass
from typing import Any

import torch

import kd_cli
from kd_cli.device import device_name, instructions
from kd_cli.train.devices import Devices


@dataclass(frozen=True)
class Circumstances:
    """How the steps of a run compute, and how often they write down how far they have come.

    `every_epochs` and `every_minutes` are those of the checkpoints, None for never; `fingerprint` is the data set's.
    """

    devices: Devices
    compile: bool
    every_epochs: int | None
    every_minutes: float | None
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """What this process computes on."""
        return self.devices.device

    def environment(self, precision: str) -> dict[str, Any]:
        """Return what a manifest or a result says of a computation in `precision`."""
        return {
            "device": self.device.type,
            "device_name": device_name(self.device),
            "instructions": instructions(self.device),
            "precision": precision,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "kd": kd_cli.__version__,
            "python": platform.python_version(),
            "dataset_fingerprint": self.fingerprint,
        }
