"""Generalist and specialists: who knows which classes, on what they are trained, what they gain."""

import pytest
import torch
from torch import Tensor, nn

from kd_cli.data.resident import Resident
from kd_cli.data.samples import Split
from kd_cli.data.spec import image_spec
from kd_cli.data.splits import whole
from kd_cli.models.mlp import mlp
from kd_cli.teachers.specialists.clustering import confusable_sets
from kd_cli.teachers.specialists.covering import conditional, covering
from kd_cli.teachers.specialists.half_own import HalfOwn, relabelled
from kd_cli.teachers.specialists.network import Specialist, SpecialistEnsemble
from kd_cli.teachers.specialists.solver import combine

CPU = torch.device("cpu")
SHAPE = (1, 2, 2)


def net(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    return mlp(num_classes, input_shape, widths=[5])


# Which classes a specialist has.


@pytest.mark.parametrize("seed", range(3))
def test_classes_that_are_confused_come_into_one_set(seed: int) -> None:
    """Planted: five groups of four, their classes shuffled; each sample's probability is spread over one group."""
    draw = torch.Generator().manual_seed(seed)
    group = torch.randperm(20, generator=draw) % 5
    truth = torch.randint(0, 20, (2000,), generator=draw)
    near = (group[truth][:, None] == group).double()
    probabilities = 0.9 * near * torch.rand(2000, 20, generator=draw, dtype=torch.float64) + 0.01
    probabilities /= probabilities.sum(1, keepdim=True)
    found = confusable_sets(probabilities, 5, 4, seed)
    assert found.tolist() == sorted((group == k).nonzero()[:, 0].tolist() for k in range(5))
    assert torch.equal(confusable_sets(probabilities, 5, 4, seed), found)
    larger = confusable_sets(probabilities, 5, 6, seed)
    for own in found:  # a larger set holds the group, and the nearest of the others
        assert any(set(own.tolist()) < set(other.tolist()) for other in larger)


def test_equal_sets_are_one() -> None:
    probabilities = torch.eye(4)[torch.arange(40) % 4]
    assert len(confusable_sets(probabilities, 4, 4, 0)) == 1


def test_a_specialist_sees_its_classes_and_a_dustbin(split: Split) -> None:
    seen = relabelled(split, torch.tensor([1, 4]), 6)
    assert seen.labels[:6].tolist() == [2, 0, 2, 2, 1, 2]
    assert torch.equal(seen.index, split.index)


@pytest.mark.parametrize(("own", "each"), [([1, 4], 40), ([0, 1, 2, 4], 40)])
def test_half_of_an_epoch_are_its_own_classes_the_others_are_drawn_anew(
    split: Split, own: list[int], each: int
) -> None:
    def batches(seed: int = 0) -> HalfOwn:
        return HalfOwn(relabelled(split, torch.tensor(own), 6), len(own), 16, seed, CPU, None)

    epochs = [torch.cat(batches().order(epoch)) for epoch in range(2)]
    for order in epochs:
        mine = torch.isin(split.labels[order], torch.tensor(own))
        assert (len(order), int(mine.sum()), len(order.unique())) == (2 * each, each, 2 * each)
    assert len(batches()) == len(batches().order(0)) == 5
    assert not torch.equal(*(order.sort().values for order in epochs))
    assert torch.equal(torch.cat(batches().order(1)), epochs[1])
    assert not torch.equal(torch.cat(batches(seed=1).order(1)), epochs[1])
    seen = list(batches().epoch(0))
    assert torch.equal(torch.cat([batch.inputs[:, 0, 0, 0] for batch in seen]).mul(255).round().long(), epochs[0])


def test_the_dustbins_correction_makes_a_calibrated_specialist_of_the_over_sampled_one() -> None:
    """An image is one of four bytes; the specialist knows exactly how often each label comes with it in what it is
    shown. Corrected, it says how often each comes in the whole data, of which a fifth are of its two classes.
    """
    draw = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(3).repeat(500), torch.full((3500,), 2)])
    shown = (labels * 5 + torch.randint(0, 13, (5000,), generator=draw)) % 4
    pixels = shown.to(torch.uint8).view(-1, 1, 1, 1)
    batches = HalfOwn(whole(Resident(pixels), labels), 2, 64, 0, CPU, None)
    counts = torch.zeros(4, 3, dtype=torch.float64)
    counts.index_put_((shown, labels), torch.ones(5000, dtype=torch.float64), accumulate=True)
    drawn = counts * torch.tensor([1, 1, 1000 / 4000])  # what an epoch holds on average: 1,000 of either kind

    class Known(nn.Module):
        def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
            super().__init__()

        def forward(self, images: Tensor) -> Tensor:
            return drawn.log()[images[:, 0, 0, 0].mul(255).round().long()]

    specialist = Specialist(3, image_spec((1, 1, 1)), Known)
    specialist.correction[-1] = batches.over_sampling
    images = (torch.arange(4) / 255).view(-1, 1, 1, 1)
    natural, sampled = (c / c.sum(1, keepdim=True) for c in (counts, drawn))
    assert torch.allclose(specialist.eval()(images).softmax(1), natural, atol=1e-6)
    assert torch.allclose(specialist.train()(images).softmax(1), sampled, atol=1e-6)


def test_a_specialist_starts_from_the_generalist() -> None:
    torch.manual_seed(0)
    generalist, specialist = net(6, SHAPE).eval(), Specialist(3, image_spec(SHAPE), net).eval()
    specialist.start_from(generalist, [4, 1], 6)
    images = torch.rand(7, *SHAPE)
    before, after = generalist(images), specialist(images)
    assert torch.allclose(after[:, :2], before[:, [4, 1]], atol=1e-6)
    assert torch.allclose(after[:, 2], before[:, [0, 2, 3, 5]].mean(1) + torch.tensor(4.0).log(), atol=1e-6)


def test_a_network_that_depends_on_the_number_of_classes_elsewhere_is_refused() -> None:
    def odd(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes), nn.Linear(num_classes, num_classes))

    refusal = (
        r"teacher.generalist must be a network whose output layer alone depends on the number of classes, "
        r"got one whose 2.weight is \[6, 6\] for 6 classes and \[3, 3\] for 3\."
    )
    with pytest.raises(Exception, match=refusal):
        Specialist(3, image_spec(SHAPE), odd).start_from(odd(6, SHAPE), [0, 1], 6)


# What they say together.


@pytest.mark.parametrize("top_n", [1, 2, 6])
def test_those_count_that_know_one_of_the_generalists_top_classes(top_n: int) -> None:
    torch.manual_seed(0)
    sets = torch.tensor([[0, 1], [1, 3], [4, 5]])
    generalist, images = net(6, SHAPE), 9 * torch.randn(50, *SHAPE)
    specialists = [Specialist(3, image_spec(SHAPE), net) for _ in sets]
    together = SpecialistEnsemble(generalist, specialists, sets, top_n).eval()
    general = generalist(images).log_softmax(1)
    said = torch.stack([specialist(images).log_softmax(1) for specialist in specialists], 1)
    top = general.argsort(1, descending=True)[:, :top_n]
    active = torch.tensor([[bool(set(own.tolist()) & set(row.tolist())) for own in sets] for row in top])
    found = together(images)
    assert active.any()
    assert top_n == 6 or not active.all()
    assert torch.allclose(found.double(), combine(general, said, sets, active), atol=1e-5)
    unknown = ~active.any(1)
    assert torch.allclose(found[unknown], general[unknown], atol=1e-5)
    assert (found.dtype, found.shape) == (torch.float32, (50, 6))


def test_gains_are_counted_by_the_specialists_that_know_the_correct_class() -> None:
    labels, sets = torch.tensor([0, 1, 1, 2, 3]), torch.tensor([[0, 1], [1, 2]])
    alone, together = torch.eye(4)[[1, 1, 0, 2, 0]], torch.eye(4)[[0, 2, 1, 2, 0]]
    assert covering(alone, together, labels, sets) == [
        {"specialists": 0, "n": 1, "generalist_errors": 1, "errors": 1},
        {"specialists": 1, "n": 2, "generalist_errors": 1, "errors": 0},
        {"specialists": 2, "n": 2, "generalist_errors": 1, "errors": 1},
    ]
    # within [0, 1]: samples 0, 1, 2; within [1, 2]: 1, 2, 3. Of equal logits the first is taken.
    assert conditional(alone, together, labels, sets) == {"n": 6, "generalist_accuracy": 4 / 6, "accuracy": 4 / 6}
