"""What becomes of the pixels of image files, of every kind that Pillow writes and of some that only others write."""

import struct

import numpy as np
import pytest
from image_bytes import RAMP, colour, file_of, grey, png, why
from PIL import Image


def tiff(values: bytes, bits: int, kind: int = 1, photometric: int = 1, side: int = 8) -> bytes:
    """A grey TIFF of side × side; `kind` 1 is unsigned, 2 signed, 3 floating-point."""
    tags = [(256, side), (257, side), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, side)]
    tags += [(279, len(values)), (339, kind)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(values)) + values + struct.pack("<H", len(tags)) + entries + bytes(4)


# --- grey of more than 8 bits


def sixteen(values: np.ndarray) -> list[bytes]:
    """The same 16-bit grey image in each format that has it."""
    image = Image.fromarray(values.astype(np.uint16))
    big = values.astype(">u2").tobytes()
    return [
        file_of(image, "PNG"),
        file_of(image, "TIFF"),
        file_of(Image.fromarray(values.astype(">u2")), "TIFF"),
        b"P5 8 8 65535\n" + big,
        tiff((65535 - values).astype("<u2").tobytes(), 16, photometric=0),  # white is zero
    ]


@pytest.mark.parametrize("which", range(5), ids=["png", "tiff", "big-endian tiff", "pgm", "white-is-zero tiff"])
def test_sixteen_bit_grey_is_scaled_from_its_whole_range(which):
    values = RAMP * 65535 // 63
    assert np.abs(grey(sixteen(values)[which]) - values / 257).max() <= 0.5


@pytest.mark.parametrize("most", [300, 1023, 4095, 16383])
@pytest.mark.parametrize("which", range(4), ids=["png", "tiff", "big-endian tiff", "pgm"])
def test_few_bits_in_sixteen_are_refused_with_their_range(which, most):
    assert why(sixteen(RAMP * most // 63)[which]) == (
        f"grey values of at most {most:,} where its header allows 65,535, which would be nearly black: save it as "
        "8-bit grey, scaled to 0 … 255"
    )


@pytest.mark.parametrize("most", [300, 1023, 4095, 65535])
def test_a_pgm_is_scaled_from_the_range_that_it_states(most):
    values = RAMP * most // 63
    content = f"P5 8 8 {most}\n".encode() + values.astype(">u2").tobytes()
    assert np.abs(grey(content) - values * 255 / most).max() <= 1


def test_twelve_bits_of_a_tiff_are_scaled_from_twelve_bits():
    values = (RAMP * 4095 // 63).ravel()
    pairs = zip(values[::2].tolist(), values[1::2].tolist(), strict=True)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    assert np.abs(grey(tiff(packed, 12)).ravel() - values * 255 / 4095).max() <= 1


def test_a_black_sixteen_bit_image_is_black():
    assert (grey(sixteen(RAMP * 0)[0]) == 0).all()


@pytest.mark.parametrize(
    "content",
    [
        file_of(Image.fromarray((RAMP / 63).astype(np.float32)), "TIFF"),
        file_of(Image.fromarray((RAMP * 1000.0).astype(np.float32)), "TIFF"),
        file_of(Image.fromarray((RAMP * 2**25).astype(np.int32)), "TIFF"),
        tiff((RAMP * 60).astype("<i2").tobytes(), 16, kind=2),
        tiff((RAMP - 32).astype("<i1").tobytes(), 8, kind=2),
        tiff((RAMP * 2**25).astype("<u4").tobytes(), 32),
        b"Pf 8 8 -1.0\n" + (RAMP / 63).astype("<f4").tobytes(),
    ],
    ids=["float to 1", "float beyond", "32 bits", "signed", "8 bits signed", "32 bits unsigned", "pfm"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_numbers_that_nothing_says_how_to_scale_are_refused(content, channels):
    assert "that nothing says how to scale: save it as 8-bit grey or colour" in why(content, channels)


def test_sixteen_bit_grey_with_a_transparent_shade_is_refused():
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in RAMP * 1000)
    content = png(8, 8, 16, 0, rows, (b"tRNS", b"\0\0"))
    assert why(content) == "16-bit grey with a transparent shade: save it as 8-bit grey or colour"


def test_sixteen_bit_colour_keeps_its_shades():
    values = np.stack([RAMP * 1040, 65535 - RAMP * 1040, RAMP * 500], axis=2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    assert np.abs(colour(png(8, 8, 16, 2, rows)) - values / 257).max() <= 1
    assert np.abs(colour(b"P6 8 8 65535\n" + values.astype(">u2").tobytes()) - values / 257).max() <= 1


@pytest.mark.parametrize("most", [255, 1023, 16383])
def test_colour_of_few_bits_in_sixteen_is_refused(most):
    values = np.stack([RAMP * most // 63, RAMP, RAMP], axis=2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    clear = np.concatenate([values, np.full((8, 8, 1), 65535)], axis=2)
    clear_rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in clear)
    contents = [png(8, 8, 16, 2, rows), b"P6 8 8 65535\n" + values.astype(">u2").tobytes()]
    for content in [*contents, *([png(8, 8, 16, 6, clear_rows)] if most > 255 else [])]:
        assert why(content, channels=3) == (
            "colours that stay below a quarter of the range that its header allows, which would be nearly black: save "
            "it as 8-bit colour, scaled to 0 … 255"
        )


def test_colour_of_ten_bits_is_scaled_from_the_range_that_its_header_states():
    values = np.stack([RAMP * 1023 // 63, RAMP, 1023 - RAMP], axis=2)
    assert np.abs(colour(b"P6 8 8 1023\n" + values.astype(">u2").tobytes()) - values * 255 / 1023).max() <= 1


# --- 8 bits and fewer


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_span_the_whole_range(bits):
    values = RAMP % 2**bits
    packed = np.packbits(np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., -bits:].reshape(8, -1), axis=1)
    content = png(8, 8, bits, 0, b"".join(b"\0" + row.tobytes() for row in packed))
    assert (grey(content) == values * 255 // (2**bits - 1)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_black_and_white_is_0_and_255(kind):
    image = Image.fromarray((RAMP % 3 == 0).astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE)
    assert (grey(file_of(image, kind)) == (RAMP % 3 == 0) * 255).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_is_looked_up(kind):
    image = Image.frombytes("P", (8, 8), (RAMP % 3).astype(np.uint8).tobytes())
    image.putpalette([250, 0, 0, 0, 240, 0, 0, 0, 230])
    expected = np.array([[250, 0, 0], [0, 240, 0], [0, 0, 230]])[RAMP % 3]
    assert (colour(file_of(image, kind)) == expected).all()


def test_cmyk_becomes_the_colours_that_it_prints():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for kind in ("TIFF", "JPEG"):
        assert np.abs(colour(file_of(image, kind)) - [255, 0, 0]).max() <= 3
