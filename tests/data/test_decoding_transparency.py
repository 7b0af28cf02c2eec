"""What becomes of transparent pixels."""

import numpy as np
import pytest
from image_bytes import RAMP, colour, file_of, grey, png, why
from PIL import Image

from kd_cli.data.decoding import decode


def test_a_black_icon_of_sixteen_bits_a_channel_is_black_on_white():
    values = np.stack([RAMP * 0] * 3 + [CLEAR.astype(int) * 257], axis=2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    assert (grey(png(8, 8, 16, 6, rows)) == 255 - CLEAR).all()


CLEAR = np.where((RAMP // 8 > 1) & (RAMP % 8 > 1), 255, 0).astype(np.uint8)  # alpha


def icon(mode: str, shade: int) -> Image.Image:
    """A square of this shade on a transparent ground of the same shade, as drawing programs write it."""
    alpha, flat = Image.fromarray(CLEAR), Image.new("L", (8, 8), shade)
    if mode == "P":
        image = Image.frombytes("P", (8, 8), (CLEAR // 255).tobytes())
        image.putpalette([shade] * 6)
        image.info["transparency"] = 0
        return image
    return Image.merge(mode, (flat,) * (len(mode) - 1) + (alpha,))


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF")]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_black_icon_on_a_transparent_ground_is_black_on_white(mode, kind, channels):
    options = {"lossless": True} if kind == "WEBP" else {}
    if mode == "P":
        options = {"transparency": 0}
    pixels = decode(file_of(icon(mode, 0), kind, **options), (8, 8), channels)
    assert (pixels.numpy() == 255 - CLEAR).all()


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGBA", "TIFF")])
def test_a_white_icon_on_a_transparent_ground_is_refused(mode, kind):
    options = {"transparency": 0} if mode == "P" else {}
    for shade in (255, 250):
        assert why(file_of(icon(mode, shade), kind, **options)) == (
            "of one shade on the white ground that transparent images are laid on: save it on another"
        )


def test_a_picture_that_is_wholly_transparent_is_refused_and_nothing_at_all_is_white():
    picture = Image.merge("RGBA", [Image.fromarray((RAMP * 4).astype(np.uint8))] * 3 + [Image.new("L", (8, 8), 0)])
    assert why(file_of(picture, "PNG")).startswith("of one shade on the white ground")
    assert (grey(file_of(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG")) == 255).all()


def test_a_transparent_shade_of_grey_and_of_colour_is_white():
    rows = b"".join(b"\0" + bytes(row.tolist()) for row in RAMP)
    assert (grey(png(8, 8, 8, 0, rows, (b"tRNS", b"\0\5"))) == np.where(RAMP == 5, 255, RAMP)).all()
    rgb = np.stack([RAMP, RAMP, RAMP], axis=2)
    rows = b"".join(b"\0" + bytes(row.ravel().tolist()) for row in rgb)
    content = png(8, 8, 8, 2, rows, (b"tRNS", bytes([0, 5, 0, 5, 0, 5])))
    assert (colour(content)[..., 0] == np.where(RAMP == 5, 255, RAMP)).all()


def test_half_transparent_is_half_white():
    assert np.abs(grey(file_of(Image.new("LA", (8, 8), (0, 127)), "PNG")) - 128).max() <= 1


def test_an_opaque_image_with_an_alpha_channel_is_as_without():
    plain = Image.fromarray(np.stack([RAMP * 4, RAMP, 255 - RAMP], axis=2).astype(np.uint8))
    assert (colour(file_of(plain.convert("RGBA"), "PNG")) == colour(file_of(plain, "PNG"))).all()
