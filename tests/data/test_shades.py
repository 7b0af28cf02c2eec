"""Deep grey and floats, scaled from a range that is asked for; formats and sizes that are decoded in their own way."""

import io

import numpy as np
import pytest
from image_bytes import RAMP, file_of
from PIL import Image

from kd_cli.data.decoding import Unusable, decode, decoded
from kd_cli.data.shades import Unscaled, likely
from kd_cli.errors import ConfigError

UNIT = (RAMP / 63).astype(np.float32)


def deep(values: np.ndarray, kind: str = "TIFF") -> bytes:
    return file_of(Image.fromarray(values), kind)


def shades(content: bytes, scale: object) -> np.ndarray:
    return decode(content, (8, 8), 1, scale)[0].numpy().astype(int)


@pytest.mark.parametrize(
    ("content", "scale"),
    [
        (deep(UNIT), (0, 1)),
        (deep(UNIT * 1000 - 500), (-500, 500)),
        (deep((RAMP * 1023 // 63).astype(np.uint16), "PNG"), (0, 1023)),
        (deep((RAMP * 4095 // 63).astype(np.uint16)), (0, 4095)),
        (deep((RAMP * 2**24).astype(np.int32)), (0, 63 * 2**24)),
        (deep(UNIT * 7 - 3), "image"),
        (deep((RAMP + 900).astype(np.uint16)), "image"),
    ],
    ids=["float", "signed float", "10 bits", "12 bits", "32 bits", "its own float", "its own grey"],
)
def test_values_are_scaled_from_the_range_that_is_asked_for(content, scale):
    assert np.abs(shades(content, scale) - RAMP * 255 / 63).max() <= 1.01


def test_what_lies_outside_the_range_is_as_its_ends():
    assert shades(deep(UNIT), (0.25, 0.5))[[0, -1], [0, -1]].tolist() == [0, 255]


def test_eight_bits_are_not_scaled():
    values = (RAMP + 7).astype(np.uint8)
    assert (shades(deep(values, "PNG"), (0, 1023)) == values).all()
    assert decoded(deep(values, "PNG"), (8, 8), 1, "image").rule == ""


def test_a_rule_is_named_where_it_made_the_pixels():
    content = deep((RAMP * 1040).astype(np.uint16), "PNG")
    assert decoded(content, (8, 8), 1).rule == ""
    assert decoded(content, (8, 8), 1, (0, 65535)).rule == "from (0, 65535)"


def test_numbers_that_are_none_are_refused():
    with pytest.raises(Unusable, match=r"^NaN or infinity among its values$"):
        shades(deep(np.where(RAMP == 3, np.nan, UNIT).astype(np.float32)), "image")


@pytest.mark.parametrize(
    ("values", "range_"),
    [
        (RAMP.astype(np.uint16), [0, 255]), ((RAMP * 16).astype(np.uint16), [0, 1023]),
        ((RAMP * 65).astype(np.int32), [0, 4095]), (UNIT, [0, 1]), (UNIT - 0.5, [-1, 1]), (UNIT * 200, [0, 255]),
        (UNIT * 630 - 63, [-63, 567]),
    ],
)  # fmt: skip
def test_the_range_that_values_seem_to_be_from(values, range_):
    assert likely([Unscaled("", values), Unscaled("", values[:4])]) == range_


# --- other formats


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000"])
def test_newer_formats_are_read(kind):
    image = Image.fromarray((RAMP * 4).astype(np.uint8)).resize((32, 32)).convert("RGB")
    try:
        content = file_of(image, kind, quality=100) if kind == "AVIF" else file_of(image, kind)
    except (KeyError, OSError):
        pytest.skip(f"Pillow writes no {kind} here")
    found = decoded(content, (32, 32), 3)
    assert (found.format, found.size) == (kind, (32, 32))
    assert np.abs(found.pixels.permute(1, 2, 0).numpy().astype(int) - np.asarray(image).astype(int)).mean() < 3


def heic() -> bytes:
    heif = pytest.importorskip("pillow_heif")
    content = io.BytesIO()
    image = Image.fromarray((RAMP * 4).astype(np.uint8)).resize((64, 64)).convert("RGB")
    heif.from_pillow(image).save(content, quality=90)
    return content.getvalue()


def test_heic_is_read_by_its_library():
    found = decoded(heic(), (64, 64), 1)
    assert (found.format, found.size) == ("HEIF", (64, 64))
    expected = np.asarray(Image.fromarray((RAMP * 4).astype(np.uint8)).resize((64, 64)))
    assert np.abs(found.pixels[0].numpy().astype(int) - expected).mean() < 5


def test_without_its_library_heic_names_the_extra(monkeypatch):
    content = heic()
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ConfigError) as refusal:
        decode(content, (8, 8), 1)
    assert "pip install 'kd-distill[heic]'" in str(refusal.value)


# --- sizes


def test_height_and_width_may_differ():
    content = deep((RAMP * 4).astype(np.uint8), "PNG")
    assert decode(content, (4, 8), 1).shape == (1, 4, 8)
    tall = np.zeros((8, 4), np.uint8)
    tall[2:4] = 200
    assert decode(deep(tall, "PNG"), (8, 4), 1)[0].numpy().tolist() == tall.tolist()


@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_photo_decoded_smaller_has_the_same_pixels(turned, channels, monkeypatch):
    y, x = np.mgrid[0:600, 0:900]
    colours = [128 + 60 * np.sin(x / 37) + 40 * np.sin(y / 13), 128 + 80 * np.sin(y / 71), 128 + 90 * np.cos(x / 29)]
    photo = np.stack(colours, 2) + np.random.default_rng(0).normal(0, 8, (600, 900, 3))
    exif = Image.Exif()
    exif[0x0112] = turned
    content = file_of(Image.fromarray(photo.clip(0, 255).astype(np.uint8)), "JPEG", quality=92, exif=exif)
    small = decoded(content, (64, 48), channels)
    assert (small.rule, small.size) == ("reduced", (900, 600))
    monkeypatch.setattr("kd_cli.data.decoding.SPARE", 100)
    full = decoded(content, (64, 48), channels)
    assert full.rule == ""
    assert int((small.pixels.int() - full.pixels.int()).abs().max()) <= 3


@pytest.mark.parametrize(("side", "rule"), [(47, ""), (48, "reduced")])
def test_a_photo_is_decoded_smaller_only_where_three_times_the_size_is_left(side, rule):
    content = file_of(Image.new("RGB", (side, 96), "red"), "JPEG")
    assert decoded(content, (8, 8), 3).rule == rule
