"""What each augmentation does to the pixels."""

import numpy as np
import pytest
import torch
from published_draws import draw
from scipy import ndimage

from kd_cli.data.augment import Affine, ResizedCrop, Shift
from kd_cli.errors import ConfigError


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


def turned(image: np.ndarray, affine: Affine, index: int, seed: int, view: int) -> np.ndarray:
    """The affine view of one image `[channels, height, width]`, from the map's factors and SciPy, in float64."""
    turn, right, down, slope = (2 * draw(index, seed, view, k) - 1 for k in (1, 2, 3, 4))
    factor = affine.scale[0] + (affine.scale[1] - affine.scale[0]) * draw(index, seed, view, 5)
    angle, shear = np.deg2rad(affine.degrees) * turn, np.deg2rad(affine.shear) * slope
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # on (x, y), y downwards
    forward = factor * rotation @ np.array([[1, -np.tan(shear)], [0, 1]])
    height, width = image.shape[1:]
    shift = affine.translate * np.array([right * width, down * height])
    inverse, centre = np.linalg.inv(forward), np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = inverse[::-1, ::-1]  # SciPy counts (row, column)
    offset = (centre - inverse @ (centre + shift))[::-1]
    view_of = [ndimage.affine_transform(plane, matrix, offset, order=1, mode="grid-constant") for plane in image]
    mirrored = affine.flip and draw(index, seed, view, 6) < 0.5
    return np.stack(view_of)[:, :, ::-1] if mirrored else np.stack(view_of)


@pytest.mark.parametrize(
    "affine",
    [
        Affine(0),
        Affine(180),
        Affine(0, translate=0.4),
        Affine(0, scale=(0.5, 2.0)),
        Affine(0, shear=40),
        Affine(30, 0.1, (0.8, 1.25), 15, flip=True),
    ],
    ids=["identity", "rotation", "translation", "scale", "shear", "all"],
)
@pytest.mark.parametrize("size", [(12, 12), (9, 16)], ids=["square", "wide"])
def test_an_affine_view_is_that_of_a_float64_reference(affine, size):
    images = torch.randint(256, (40, 2, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index = torch.arange(40) * 13
    found = affine(images, index, 5, 1).double().numpy()
    expected = np.stack(
        [turned(image, affine, int(i), 5, 1) for image, i in zip(images.double().numpy(), index, strict=True)]
    )
    # half a level from rounding to bytes; float32 places are off by some 1e-6 of a pixel, of which each has 255 levels
    assert np.abs(found - expected).max() <= 0.5 + 2e-3


def test_affine_parameters_fill_their_ranges_evenly():
    side, samples = 65, 1500
    dot = torch.zeros(samples, 1, side, side, dtype=torch.uint8)
    dot[:, 0, 32, 52] = 255  # 20 pixels to the right of the centre
    weight = Affine(45, flip=True)(dot, torch.arange(samples), 0, 0)[:, 0].double().numpy()
    place = np.arange(side) - 32
    x, y = ((weight.sum(axis) * place).sum(1) / weight.sum((1, 2)) for axis in (1, 2))
    angle = np.rad2deg(np.arctan2(y, np.abs(x)))
    assert np.abs(np.hypot(x, y) - 20).max() < 0.2
    assert -45.5 < angle.min() < -44
    assert 44 < angle.max() < 45.5
    assert np.abs(np.histogram(angle, 6, (-45, 45))[0] / samples - 1 / 6).max() < 0.04
    assert abs((x < 0).mean() - 0.5) < 0.05


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
        (
            lambda: ResizedCrop(0.5),
            "augment.scale must be two shares of the area, 0 < low ≤ high ≤ 1, got 0.5.",
        ),
        (lambda: Affine(-3), "augment.degrees must be between 0 and 180, got -3."),
        (lambda: Affine(None), "augment.degrees must be between 0 and 180, got None."),
        (lambda: Affine(5, 1.5), "augment.translate must be a share of the side, between 0 and 1, got 1.5."),
        (lambda: Affine(5, scale=[0, 1]), "augment.scale must be two factors, 0 < low ≤ high, got [0, 1]."),
        (lambda: Affine(5, shear=90), "augment.shear must be degrees ≥ 0 and < 90, got 90."),
    ],
)
def test_values_outside_their_rule_are_refused(make, message):
    with pytest.raises(ConfigError) as refusal:
        make()
    assert str(refusal.value) == message
