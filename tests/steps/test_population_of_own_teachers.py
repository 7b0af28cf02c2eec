"""A population whose teacher is somebody's own, of which nothing can be compared."""

from pathlib import Path

from running import TINY, inside

SOURCE = """
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kd_cli.teachers.source import Single


@dataclass(frozen=True, kw_only=True)
class Fixed(Single):
    weight: Tensor = field(default_factory=lambda: torch.linspace(-1, 1, 640).view(10, 64))

    def network(self, dataset, load):
        layer = nn.Linear(64, 10, bias=False)
        layer.weight.data = self.weight
        return nn.Sequential(nn.Flatten(), layer)


class Softmax(Single):
    def network(self, dataset, load):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))
"""


def teacher(folder: Path, name: str) -> tuple[str, str]:
    (folder / "mine_in_a_population.py").write_text(SOURCE)
    (folder / "mine" / "teacher").mkdir(parents=True)
    (folder / "mine" / "teacher" / "own.yaml").write_text(f"_target_: mine_in_a_population.{name}\nonline: false\n")
    return "--config-dir", "mine"


def test_its_students_are_trained_together(tmp_path: Path) -> None:
    words = (*teacher(tmp_path, "Fixed"), "teacher=own", "baseline=false", "temperature=1,2,4", TINY[1])
    done = inside("sweep", *words, "hydra/launcher=population", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "students: 3 trained together" in done.err


def test_one_that_gives_probabilities_is_refused_by_its_own_key(tmp_path: Path) -> None:
    done = inside("distill", *teacher(tmp_path, "Softmax"), "teacher=own", cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("teacher must be a network that gives logits, got outputs that are ≥ 0 and sum to 1")
