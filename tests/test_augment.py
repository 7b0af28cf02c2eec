import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_cli.augment import ResizedCrop, Shift, uniform
from kd_cli.errors import ConfigError

WORD = (1 << 64) - 1
AUGMENTS = [Shift(2), Shift(3, flip=True), Shift(2, triangular=True), ResizedCrop((0.25, 1.0)), ResizedCrop(flip=False)]
NAMES = ["shift", "shift and flip", "triangular", "crop and flip", "crop"]


def splitmix(value: int) -> int:
    """The finaliser of SplitMix64 as published, on Python's integers."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def draw(index: int, seed: int, view: int, k: int) -> float:
    """Draw k (counted from 1) of a sample."""
    golden = 0x9E3779B97F4A7C15
    base = splitmix((splitmix((seed * 0xD1342543DE82EF95 + (view + 1) * golden) & WORD) + index) & WORD)
    return (splitmix((base + k * golden) & WORD) >> 40) / 2**24


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (30, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


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


def test_a_shift_known_by_hand():
    image = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8).view(1, 1, 3, 3)
    shift = Shift(1)
    by_corner = {
        (0, 0): [[0, 0, 0], [0, 1, 2], [0, 4, 5]],  # down and to the right
        (0, 1): [[0, 0, 0], [1, 2, 3], [4, 5, 6]],
        (1, 1): [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        (1, 2): [[2, 3, 0], [5, 6, 0], [8, 9, 0]],
        (2, 0): [[0, 4, 5], [0, 7, 8], [0, 0, 0]],
        (2, 2): [[5, 6, 0], [8, 9, 0], [0, 0, 0]],  # up and to the left
    }
    met = set()
    for index in range(100):
        corner = (int(draw(index, 4, 2, 2) * 3), int(draw(index, 4, 2, 3) * 3))
        if corner in by_corner:
            assert shift(image, torch.tensor([index]), 4, 2)[0, 0].tolist() == by_corner[corner]
            met.add(corner)
    assert met == set(by_corner)


def offsets(shift: Shift, samples: int) -> np.ndarray:
    """How far each of `samples` images moved: (rows down, columns right), found from one bright pixel."""
    images = torch.zeros(samples, 1, 21, 21, dtype=torch.uint8)
    images[:, 0, 10, 10] = 255
    view = shift(images, torch.arange(samples), 0, 0)
    assert (view.flatten(1).sum(1) == 255).all()
    where = view.flatten(1).int().argmax(1)
    return np.stack([where // 21 - 10, where % 21 - 10])


@pytest.mark.parametrize("pixels", [0, 1, 2, 4])
def test_a_shift_covers_exactly_its_range_evenly(pixels):
    moved = offsets(Shift(pixels), 3000)
    for axis in moved:
        values, counts = np.unique(axis, return_counts=True)
        assert values.tolist() == list(range(-pixels, pixels + 1))
        assert np.abs(counts / 3000 - 1 / (2 * pixels + 1)).max() < 0.04
    assert len(np.unique(moved, axis=1).T) == (2 * pixels + 1) ** 2  # rows and columns are drawn apart


@pytest.mark.parametrize(
    ("pixels", "shares"),
    [(1, [1 / 3, 1 / 3, 1 / 3]), (2, [1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9]), (3, np.array([1, 2, 3, 3, 3, 2, 1]) / 15)],
)
def test_a_triangular_shift_is_the_sum_of_two_even_ones(pixels, shares):
    for axis in offsets(Shift(pixels, triangular=True), 6000):
        values, counts = np.unique(axis, return_counts=True)
        assert values.tolist() == list(range(-pixels, pixels + 1))
        assert np.abs(counts / 6000 - shares).max() < 0.03


def test_half_of_the_images_are_mirrored_and_none_without_flip():
    images = torch.zeros(2000, 1, 3, 4, dtype=torch.uint8)
    images[..., 0] = 9
    flipped = Shift(0, flip=True)(images, torch.arange(2000), 0, 0)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert ((flipped == images).flatten(1).all(1) ^ mirrored).all()
    assert abs(float(mirrored.float().mean()) - 0.5) < 0.04
    assert torch.equal(Shift(0)(images, torch.arange(2000), 0, 0), images)


def rectangles(crop: ResizedCrop, samples: int) -> dict[str, np.ndarray]:
    """Share of width and height of each crop, and whether it is mirrored, read off two ramps."""
    side = 64
    ramp = (torch.arange(side) * 4).to(torch.uint8)
    image = torch.stack([ramp.expand(side, side), ramp.view(-1, 1).expand(side, side)])
    views = crop(image.expand(samples, 2, side, side), torch.arange(samples), 0, 0).double().numpy()
    inner = slice(4, side - 4)  # the border of a full-size crop is filled by its last pixel
    across, down = views[:, 0, 0, inner], views[:, 1, inner, 0]
    positions = np.arange(side)[inner]
    slopes = [np.polyfit(positions, part.T, 1)[0] / 4 for part in (across, down)]
    return {"width": np.abs(slopes[0]), "height": slopes[1], "mirrored": slopes[0] < 0}


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.25, 0.5), (0.9, 1.0)])
def test_a_resized_crop_covers_its_share_of_the_area(scale):
    found = rectangles(ResizedCrop(scale, flip=False), 600)
    area = found["width"] * found["height"]
    assert area.min() > scale[0] - 0.02
    assert area.max() < scale[1] + 0.02
    assert area.min() < scale[0] + 0.05
    assert area.max() > scale[1] - 0.1
    aspect = found["width"] / found["height"]
    assert 0.72 < aspect.min() < aspect.max() < 1.39
    assert not found["mirrored"].any()


def test_half_of_the_resized_crops_are_mirrored():
    assert abs(rectangles(ResizedCrop((0.5, 1.0)), 600)["mirrored"].mean() - 0.5) < 0.08


def test_a_resized_crop_stays_inside_the_image_and_reaches_all_of_it():
    side = 32
    ramp = (torch.arange(side) * 8).to(torch.uint8)
    views = ResizedCrop((0.08, 0.2), flip=False)(
        ramp.expand(400, 1, side, side).contiguous(), torch.arange(400), 0, 0
    ).int()
    assert (views[:, 0, 0].diff(dim=1) >= 0).all()
    assert int(views.min()) <= 8
    assert int(views.max()) >= 8 * 30


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shift(-1), "augment.pixels must be a whole number ≥ 0, got -1."),
        (lambda: Shift(1.5), "augment.pixels must be a whole number ≥ 0, got 1.5."),
        (lambda: Shift(True), "augment.pixels must be a whole number ≥ 0, got True."),
        (
            lambda: ResizedCrop([0.5, 0.2]),
            "augment.scale must be two shares of the area, 0 < low ≤ high ≤ 1, got [0.5, 0.2].",
        ),
        (
            lambda: ResizedCrop([0, 1]),
            "augment.scale must be two shares of the area, 0 < low ≤ high ≤ 1, got [0, 1].",
        ),
        (
            lambda: ResizedCrop([0.5]),
            "augment.scale must be two shares of the area, 0 < low ≤ high ≤ 1, got [0.5].",
        ),
    ],
)
def test_values_outside_their_rule_are_refused(make, message):
    with pytest.raises(ConfigError) as refusal:
        make()
    assert str(refusal.value) == message
