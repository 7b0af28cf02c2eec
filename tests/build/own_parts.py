"""A model and a student of a person's own."""

from pathlib import Path

MODELS = """
from torch import nn


def flat(num_classes, input_shape, width=8):
    channels, height, side = input_shape
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * side, width), nn.{activation}(), nn.Linear(width, num_classes)
    )
"""
STUDENT = """
# A student of my own.
defaults:
  - /optimizer@train.optimizer: sgd
  - /scheduler@train.scheduler: cosine
  - _self_

model:
  _target_: {module}.flat
  _partial_: true
  width: 8
train:
  _target_: kd_cli.train.recipe.Recipe
  epochs: 2
  batch_size: 64
"""


def own(folder: Path, module: str, activation: str = "ReLU") -> None:
    """Writes `<module>.py` and `my_configs/student/mine.yaml`."""
    (folder / f"{module}.py").write_text(MODELS.replace("{activation}", activation))
    (folder / "my_configs" / "student").mkdir(parents=True, exist_ok=True)
    (folder / "my_configs" / "student" / "mine.yaml").write_text(STUDENT.format(module=module))


MINE = ("--config-dir", "my_configs", "student=mine")
