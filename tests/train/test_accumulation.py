"""A step in parts is the step of the whole batch."""

import pytest
import torch
from small_trainings import history, net
from torch import Tensor, nn

from kd_cli.data.mixing import Mixup
from kd_cli.data.samples import Batch
from kd_cli.data.splits import with_labels
from kd_cli.errors import ConfigError
from kd_cli.train.accumulation import parts_of
from kd_cli.train.batches import Batches
from kd_cli.train.schedules import cosine

CPU = torch.device("cpu")


def answers(positions: Tensor, view: int, images: Tensor) -> Tensor:
    return 8 * torch.sin(positions[:, None] * torch.arange(1.0, 11.0) + view)


@pytest.mark.parametrize(
    "changes",
    [{}, {"clip": 0.3}, {"max_norm": 0.4, "clip": 1.0}, {"scheduler": cosine}],
    ids=["plain", "clip", "bounds", "cosine"],
)
@pytest.mark.parametrize("labels", ["all", 0.3])
@pytest.mark.parametrize("weights", [None, torch.arange(10.0)])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(few, recipe, changes, labels, weights) -> None:
    """150 = 4 × 32 + 22 images: parts of 8 and, in the last batch, of 6 and 5."""
    done = []
    for parts in (1, 4):
        model = net()
        batches = Batches(with_labels(few, labels, 0), 32, 5, CPU, targets=answers, class_weights=weights)
        done.append((model, history(model, batches, recipe(accumulate=parts, **changes))))
    (whole, expected), (cut, records) = done
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for record, wanted in zip(records, expected, strict=True):
        assert record == pytest.approx(wanted, rel=1e-4)


def test_mixtures_are_cut_with_their_partners(few, recipe) -> None:
    done = []
    for parts in (1, 3):
        model = net()
        history(model, Batches(with_labels(few, 0.5, 0), 32, 5, CPU, Mixup(0.4), 1), recipe(accumulate=parts))
        done.append(nn.utils.parameters_to_vector(model.parameters()))
    torch.testing.assert_close(*done, rtol=1e-4, atol=1e-5)


def test_float16_is_scaled_once_a_step(few, recipe) -> None:
    """The scale grows and falls with steps, not with parts: both end alike, to float16's precision."""
    done = []
    for parts in (1, 4):
        model = net()
        history(model, Batches(few, 32, 5, CPU), recipe(accumulate=parts, precision="16-mixed", clip=1.0))
        done.append(nn.utils.parameters_to_vector(model.parameters()))
    torch.testing.assert_close(*done, rtol=0.02, atol=0.005)


def test_one_part_is_the_batch_itself(few, recipe) -> None:
    done = []
    for changes in ({}, {"accumulate": 1}):
        model = net()
        history(model, Batches(few, 32, 5, CPU), recipe(**changes))
        done.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*done)


@pytest.mark.parametrize(("n", "parts", "sizes"), [(5, 4, [3, 2]), (32, 3, [11, 11, 10]), (1, 4, [1]), (8, 4, [2] * 4)])
def test_no_part_is_a_single_sample(n: int, parts: int, sizes: list[int]) -> None:
    cut = parts_of(Batch(torch.zeros(n, 1), torch.zeros(n, dtype=torch.int64)), parts)
    assert [len(part.inputs) for part, _ in cut] == sizes
    assert sum(share for _, share in cut) == pytest.approx(1)


@pytest.mark.parametrize("value", [0, -1, 17, 2.0, True, None])
def test_parts_that_cannot_be_are_refused(recipe, value) -> None:
    with pytest.raises(ConfigError, match=r"^train\.accumulate must be a whole number from 1 to 16 with batches of 32"):
        recipe(accumulate=value)
