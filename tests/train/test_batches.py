import pytest
import torch
from torch import Tensor

from kd_cli.data.augment import Shift
from kd_cli.data.resident import Resident
from kd_cli.data.samples import Split
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("samples", "size", "lengths"),
    [(41, 8, [8, 8, 8, 8, 9]), (40, 8, [8] * 5), (34, 8, [8] * 4 + [2]), (41, 64, [41]), (1, 8, [1])],
)
def test_an_epoch_shows_every_sample_once_and_no_batch_of_one(named, samples, size, lengths):
    batches = Batches(named.split.select(torch.arange(samples)), size, 0, CPU)
    shown = list(batches.epoch(0))
    assert [len(batch.inputs) for batch in shown] == lengths
    assert len(batches) == len(lengths)
    assert torch.equal(torch.cat([named.of(batch.inputs) for batch in shown]).sort().values, torch.arange(samples))


def test_epochs_come_in_other_orders_and_can_be_asked_for_in_any(named):
    batches = Batches(named.split, 8, 0, CPU)
    orders = [torch.cat([named.of(batch.inputs) for batch in batches.epoch(epoch)]) for epoch in (0, 1, 0)]
    assert torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])


@pytest.mark.parametrize(("views", "expected"), [(3, [0, 1, 2, 0, 1]), (1, [0] * 5), (None, [0, 1, 2, 3, 4])])
def test_epoch_e_shows_view_e_mod_v_in_images_and_targets(few, views, expected):
    asked: list[int] = []

    def targets(positions: Tensor, view: int, images: Tensor) -> Tensor:
        asked.append(view)
        by_hand = Shift(2)(next(few.samples.stream([positions], CPU)), few.index[positions], 11, view)
        assert torch.equal(images, by_hand.float() / 255)
        return torch.zeros(len(positions), 10)

    batches = Batches(few, 150, 0, CPU, Shift(2), 11, views, targets)
    for epoch in range(5):
        list(batches.epoch(epoch))
    assert asked == expected


def test_images_are_float32_in_0_to_1(named):
    images = next(Batches(named.split, 41, 0, CPU).epoch(0)).inputs
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.unique(), torch.arange(41) / 255)


def test_images_stay_where_the_split_keeps_them_untouched(few, small_net, recipe):
    before = few.samples.digest
    fit(small_net(), Batches(few, 32, 0, CPU, Shift(1)), CrossEntropy(), recipe(epochs=1))
    assert Resident(next(few.samples.stream([torch.arange(150)], CPU))).digest == before
    assert isinstance(few, Split)
