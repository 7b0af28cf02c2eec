"""One seed, the same bits: whatever was drawn before, and in whatever company."""

import pytest
import torch
from torch import Tensor, nn
from weights import weights

from kd_cli.data.augment import Shift
from kd_cli.data.samples import Answer, Batch
from kd_cli.models.mlp import mlp
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.train.batches import Batches, derive
from kd_cli.train.fit import fit

CPU = torch.device("cpu")


class Recorded(CrossEntropy):
    """Cross-entropy that keeps every batch it is shown."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def __call__(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        self.batches.append(batch)
        return super().__call__(answer, batch)


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before(small_net, recipe, few, precision):
    trained = []
    for disturbance in (1, 2):
        model = small_net()
        torch.manual_seed(disturbance)
        torch.rand(disturbance)
        fit(model, Batches(few, 32, 5, CPU, Shift(1), 0, 2), CrossEntropy(), recipe(precision=precision))
        trained.append(weights(model))
    assert torch.equal(*trained)


def test_validating_after_each_epoch_does_not_change_what_is_learnt(small_net, recipe, few, digits):
    trained = []
    for validation in (None, digits.validation):
        model = small_net()
        fit(model, Batches(few, 32, 5, CPU), CrossEntropy(), recipe(), validation)
        trained.append(weights(model))
    assert torch.equal(*trained)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_another_seed_gives_another_order_and_other_dropout(small_net, recipe, few, dropout):
    trained = []
    for seed in (5, 6):
        model = small_net(dropout=dropout)
        fit(model, Batches(few, len(few) if dropout else 32, seed, CPU), CrossEntropy(), recipe(epochs=1))
        trained.append(weights(model))
    assert not torch.allclose(*trained, atol=1e-4)


def test_other_threads_give_the_same_weights_within_rounding(recipe, digits):
    def trained(threads: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = mlp(10, (1, 8, 8), widths=[1200, 1200], dropout=0.5)
        torch.set_num_threads(threads)
        fit(model, Batches(digits.train, 256, 5, CPU), CrossEntropy(), recipe(epochs=2))
        return list(model.parameters())

    for one, two in zip(trained(1), trained(2), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_two_models_with_one_seed_see_the_same_batches(recipe, few):
    seen = []
    for widths, dropout in (([4], 0.0), ([40, 40], 0.5)):  # the second draws random numbers in every step
        objective = Recorded()
        model = mlp(10, (1, 8, 8), widths=widths, dropout=dropout)
        fit(model, Batches(few, 32, 9, CPU, Shift(2), 1, 2), objective, recipe())
        seen.append(objective.batches)
    assert len(seen[0]) == len(seen[1]) == 10
    for left, right in zip(*seen, strict=True):
        assert torch.equal(left.inputs, right.inputs)
        assert torch.equal(left.labels, right.labels)


def test_dropout_differs_between_steps_and_epochs(recipe, few):
    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.linear, self.seen = nn.Dropout(0.5), nn.Linear(64, 10), []

        def forward(self, images: Tensor) -> Tensor:
            mask = self.dropout(torch.ones(len(images), 64))
            if self.training:
                self.seen.append(mask)
            return self.linear(images.flatten(1) * mask)

    model = Masks()
    fit(model, Batches(few.select(torch.arange(64)), 32, 9, CPU), CrossEntropy(), recipe())
    masks = [mask for mask in model.seen if len(mask) == 32]
    assert len(masks) == 4
    assert not any(torch.equal(masks[j], masks[k]) for j in range(4) for k in range(j))


def test_derived_seeds_are_fixed_for_good_and_differ_for_other_parts():
    assert derive(0, "order", 0) == derive(0, "order", 0)
    parts = [(s, name, e) for s in range(5) for name in ("order", "dropout") for e in range(5)]
    derived = {derive(*part) for part in parts} | {derive(1, 12), derive(11, 2), derive("1", 12)}
    assert len(derived) == len(parts) + 3
    assert all(0 <= seed < 2**63 for seed in derived)
