"""What holds of every augmentation: which view of a sample is drawn, in any batch and order."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published_draws import draw
from torch import Tensor

from kd_cli.data.augment import Affine, ResizedCrop, Shift, uniform
from kd_cli.data.mixing import Mixup
from kd_cli.data.samples import Dataset
from kd_cli.data.views import show
from kd_cli.errors import DataError, under

AUGMENTS = [
    Shift(2),
    Shift(3, flip=True),
    Shift(2, triangular=True),
    ResizedCrop((0.25, 1.0)),
    ResizedCrop(flip=False),
    Affine(20, 0.1, (0.8, 1.2), 10, flip=True),
]
NAMES = ["shift", "shift and flip", "triangular", "crop and flip", "crop", "affine"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 2**62), min_size=1, max_size=5),
    st.integers(0, 2**64),
    st.integers(0, 10**6),
)
def test_draws_are_the_published_hash_of_seed_view_and_index(index, seed, view):
    expected = [[draw(i, seed, view, k) for i in index] for k in (1, 2, 3)]
    assert uniform(torch.tensor(index), seed, view, 3).tolist() == expected


def test_draws_are_even_and_unrelated_between_seeds_views_samples_and_draws():
    index = torch.arange(4000)
    streams = [*uniform(index, 0, 0, 3), *uniform(index, 0, 1, 1), *uniform(index, 1, 0, 1)]
    streams.append(streams[0].roll(1))
    table = np.corrcoef(torch.stack(streams).double().numpy())
    assert np.abs(table - np.eye(len(streams))).max() < 0.06  # 4 standard errors
    for stream in streams:
        assert torch.histc(stream, 8, 0, 1).sub(500).abs().max() < 100


@pytest.mark.parametrize("augment", AUGMENTS, ids=NAMES)
def test_a_view_of_a_sample_is_the_same_pixels_in_any_batch_and_order(augment, images):
    index = torch.arange(len(images)) * 11 + 5
    whole = augment(images, index, 7, 3)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(images[order], index[order], 7, 3), whole[order])
    alone = torch.cat([augment(images[k : k + 1], index[k : k + 1], 7, 3) for k in range(len(images))])
    assert torch.equal(alone, whole)


@pytest.mark.parametrize("augment", AUGMENTS, ids=NAMES)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 29), min_size=1, max_size=40), st.integers(0, 2**64), st.integers(0, 10**6))
def test_a_view_of_a_sample_is_the_same_pixels_beside_any_others(augment, chosen, seed, view):
    images = torch.randint(256, (30, 1, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index, some = torch.arange(30) * 2**40 + 3, torch.tensor(chosen)
    assert torch.equal(augment(images[some], index[some], seed, view), augment(images, index, seed, view)[some])


@pytest.mark.parametrize("augment", AUGMENTS, ids=NAMES)
def test_a_view_does_not_depend_on_the_global_generator_nor_move_it(augment, images):
    torch.manual_seed(0)
    first = augment(images, torch.arange(30), 0, 0)
    torch.rand(5)
    before = torch.get_rng_state()
    assert torch.equal(augment(images, torch.arange(30), 0, 0), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("augment", AUGMENTS, ids=NAMES)
def test_shape_and_type_are_kept_and_the_input_is_not_changed(augment, images):
    before = images.clone()
    view = augment(images, torch.arange(30), 0, 0)
    assert (view.shape, view.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)


@pytest.mark.parametrize("augment", AUGMENTS, ids=NAMES)
@pytest.mark.parametrize("changed", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=["index", "seed", "view"])
def test_other_index_seed_or_view_gives_other_pixels(augment, changed, images):
    step, seed, view = changed
    index = torch.arange(30)
    assert not torch.equal(augment(images, index, 0, 0), augment(images, index + 100 * step, seed, view))


def test_a_view_is_drawn_by_the_samples_index_and_not_by_its_place(named):
    seen = []

    def augment(images, index, seed, view):
        seen.append((named.of(images / 255).tolist(), index.tolist(), seed, view))
        return images

    list(show(named.split, [torch.tensor([4, 0]), torch.tensor([2])], torch.device("cpu"), augment, 5, 3))
    assert seen == [([4, 0], [31, 3], 5, 3), ([2], [17], 5, 3)]


def test_samples_that_turn_into_others_are_told_as_the_data_sets(digits: Dataset) -> None:
    """Whoever sees them, a student or a teacher: it is not to blame."""
    split = digits.train.select(torch.arange(4))

    class Turned:
        spec = split.samples.spec

        def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
            for batch in split.samples.stream(batches, device):
                yield batch.float()

    turned = replace(split, samples=Turned())  # type: ignore[arg-type]
    for augment in (None, Mixup()):
        with pytest.raises(DataError, match=r"^dataset must be one of uint8 images"), under("student"):
            list(show(turned, [torch.arange(2)], torch.device("cpu"), augment, 0, 0))
