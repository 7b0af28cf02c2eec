"""The figures of an epoch."""

import pytest
import torch
from torch import Tensor, nn
from watching import Seen

from kd_cli.data.samples import UNLABELLED, Batch
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit
from kd_cli.train.meter import Meter
from kd_cli.train.schedules import multi_step

CPU = torch.device("cpu")


def test_figures_of_an_uneven_last_batch_are_means_over_samples(recipe, few):
    class Constant(nn.Module):
        """Always the same logits; its learning rate is 0 below."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.linspace(0, 2, 10))

        def forward(self, images: Tensor) -> Tensor:
            return self.bias.expand(len(images), 10) * 1

    records: list[dict[str, float]] = []
    split = few.select(torch.arange(101))  # 64 + 37
    fit(Constant(), Batches(split, 64, 0, CPU), CrossEntropy(), recipe(lr=0.0), watch=Seen(epoch=records.append))
    bias = torch.linspace(0, 2, 10, dtype=torch.float64)
    expected = float((bias.logsumexp(0) - bias[split.labels]).mean())
    assert [record["loss"] for record in records] == pytest.approx([expected] * 2, rel=1e-6)
    assert records[0]["train_accuracy"] == pytest.approx(float((split.labels == 9).double().mean()))


def test_the_meter_weighs_batches_by_their_samples_and_accuracy_by_labels():
    meter = Meter()
    logits = torch.eye(3)
    meter.add(Batch(torch.zeros(3, 1), torch.tensor([0, 1, 0])), logits, {"loss": torch.tensor(2.0)})
    meter.add(Batch(torch.zeros(1, 1), torch.tensor([UNLABELLED])), logits[:1], {"loss": torch.tensor(6.0)})
    figures = meter.figures()
    assert figures["loss"] == 3.0  # (3 · 2 + 1 · 6) / 4, not (2 + 6) / 2
    assert figures["train_accuracy"] == pytest.approx(2 / 3)
    assert figures["samples_per_second"] > 0


def test_the_meter_has_no_accuracy_without_labels():
    meter = Meter()
    meter.add(Batch(torch.zeros(2, 1), torch.tensor([-1, -1])), torch.eye(2), {"loss": torch.tensor(2.0)})
    assert "train_accuracy" not in meter.figures()


def test_each_epoch_is_recorded_with_its_number_rate_terms_and_accuracies(small_net, recipe, few, digits):
    records: list[dict[str, float]] = []
    steps: list[tuple[int, int]] = []

    def targets(positions: Tensor, view: int, images: Tensor) -> Tensor:
        return torch.zeros(len(positions), 10)

    fit(
        small_net(),
        Batches(few, 50, 0, CPU, targets=targets),
        Hinton(4.0, 0.5, 0.25),
        recipe(lr=0.2, epochs=3, scheduler=lambda *a: multi_step(*a, milestones=[2], gamma=0.5)),
        digits.validation,
        watch=Seen(lambda epoch, step: steps.append((epoch, step)), records.append),
    )
    assert steps == [(epoch, step) for epoch in range(3) for step in range(3)]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert [record["lr"] for record in records] == [0.2, 0.2, 0.1]
    for record in records:
        accuracies = {"train_accuracy", "validation_accuracy"}
        assert set(record) == {"epoch", "lr", "loss", "soft", "hard", "samples_per_second"} | accuracies
        assert record["loss"] == pytest.approx(0.5 * record["soft"] + 0.25 * record["hard"], rel=1e-5)
