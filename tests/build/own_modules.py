"""Modules of a person's own, for the tests of what runs and of what is digested."""

from pathlib import Path

FLAT = """
from torch import nn


def flat(num_classes, input_shape, width=8):
    channels, height, side = input_shape
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * side, width), nn.ReLU(), nn.Linear(width, num_classes)
    )
"""


MODEL = "_target_: {target}\n_partial_: true\n"


def choose(folder: Path, target: str) -> tuple[str, ...]:
    """Writes `mine/model/mine.yaml`; returns the words that choose it for the student."""
    (folder / "mine" / "model").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "model" / "mine.yaml").write_text(MODEL.format(target=target))
    return ("--config-dir", "mine", "model@student.model=mine")
