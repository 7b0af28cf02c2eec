"""A teacher of one's own without a network, and what a sample without an answer weighs."""

from pathlib import Path

import pytest
import torch
from running import inside
from torch import Tensor
from torch.nn import functional as F

from kd_cli.data.samples import Answer, Batch
from kd_cli.objectives.hard_teacher import HardTeacher
from kd_cli.objectives.hinton import Hinton, soft_loss
from kd_cli.objectives.logit_matching import LogitMatching
from kd_cli.train.accumulation import parts_of
from kd_cli.train.batches import weight_of

SOURCE = """
from dataclasses import dataclass

import torch

from kd_cli.teachers.source import Answered


class Rule:
    name = top_k = None
    labels = False
    free = as_they_are = True
    allowed = 0.5

    def __init__(self, size):
        self.size = size

    def identity(self):
        return {"size": self.size}

    def check(self, split):
        pass

    def untold(self, split):
        return ""

    def predictions(self, split, augment, augment_seed, view, positions):
        for part in positions.split(self.size):
            logits = torch.zeros(len(part), 10)
            logits[torch.arange(len(part)), split.labels[part]] = 3.0
            logits[split.index[part] % 4 == 0] = SAID
            yield logits


@dataclass(frozen=True, kw_only=True)
class Mine(Answered):
    size: int

    def open(self, dataset, root):
        return Rule(self.size)
"""
MINE = ("--config-dir", "mine", "teacher=mine", "student.train.epochs=2", "baseline=false")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine/teacher").mkdir(parents=True)
    (tmp_path / "mine/teacher/mine.yaml").write_text("_target_: my_rules.Mine\nsize: 100\nonline: false\n")
    (tmp_path / "my_rules.py").write_text(SOURCE.replace("SAID", "1.0"))
    return tmp_path


def test_it_needs_no_network_and_is_known_by_what_it_states_and_its_source(folder: Path) -> None:
    result = inside("distill", *MINE, cwd=folder).result
    assert result["teacher"]["params"] is None
    assert 0 < result["teacher"]["errors"] < 200  # a quarter, but for ties
    assert "soft targets: found in" in inside("distill", *MINE, cwd=folder).err
    (folder / "my_rules.py").write_text(SOURCE.replace("SAID", "2.0"))
    assert "soft targets: made anew" in inside("distill", *MINE, cwd=folder).err


def test_a_student_learns_from_the_answers_that_there_are(folder: Path) -> None:
    (folder / "my_rules.py").write_text(SOURCE.replace("SAID", "float('nan')").replace('return ""', 'return "spared"'))
    result = inside("distill", *MINE, "hard_weight=0", "soft_weight=1", cwd=folder).result
    assert result["student"]["accuracy"] > 0.6
    assert result["teacher"] is None


def batch_of(told: Tensor, weight: Tensor | None) -> Batch:
    return Batch(torch.zeros(len(told), 1), torch.zeros(len(told), dtype=torch.int64), Answer(told, weight=weight))


@pytest.mark.parametrize("objective", [Hinton(3.0, 1.0, 0.0), HardTeacher(1.0, 0.0), LogitMatching(1.0, 0.0)])
def test_the_soft_term_is_the_mean_over_the_samples_with_an_answer(objective: Hinton) -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(6, 4, generator=draw), torch.randn(6, 4, generator=draw)
    told = torch.tensor([True, False, True, True, False, True])
    whole = batch_of(teacher, weight_of(told))
    alone = objective(Answer(student[told]), batch_of(teacher[told], None))["loss"]
    torch.testing.assert_close(objective(Answer(student), whole)["loss"], alone)
    parts, place, total = parts_of(whole, 2), 0, 0.0
    for part, share in parts:
        total += share * float(objective(Answer(student[place : place + len(part)]), part)["loss"])
        place += len(part)
    assert total == pytest.approx(float(alone), rel=1e-5)


def test_a_batch_without_any_answer_weighs_nothing() -> None:
    weight = weight_of(torch.zeros(3, dtype=torch.bool))
    assert weight.tolist() == [0.0, 0.0, 0.0]
    assert float(soft_loss(torch.randn(3, 4), torch.randn(3, 4), 2.0, weight)) == 0.0


def test_the_weighted_divergence_is_torchs() -> None:
    student, teacher = torch.randn(5, 4), torch.randn(5, 4)
    each = F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)
    torch.testing.assert_close(soft_loss(student, teacher, 1.0, torch.ones(5)), each)
