"""What becomes of the pixels of image files, of every kind that Pillow writes and of some that only others write."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from kd_cli.data.decoding import LARGEST_FILE, LARGEST_IMAGE, Unusable, decode, read

RAMP = np.arange(64, dtype=np.int64).reshape(8, 8)  # 0 … 63


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(content: bytes, side: int = 8) -> np.ndarray:
    return decode(content, (side, side), 1)[0].numpy().astype(int)


def colour(content: bytes, side: int = 8) -> np.ndarray:
    return decode(content, (side, side), 3).permute(1, 2, 0).numpy().astype(int)


def why(content: bytes, channels: int = 1) -> str:
    with pytest.raises(Unusable) as refusal:
        decode(content, (8, 8), channels)
    return str(refusal.value)


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = b"".join(chunk(name, data) for name, data in chunks)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


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


def test_a_black_icon_of_sixteen_bits_a_channel_is_black_on_white():
    values = np.stack([RAMP * 0] * 3 + [CLEAR.astype(int) * 257], axis=2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    assert (grey(png(8, 8, 16, 6, rows)) == 255 - CLEAR).all()


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


# --- transparency

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


# --- orientation

TURNS = {1: 0, 6: -1, 3: 2, 8: 1}  # EXIF's orientation: by how many quarters numpy turns what is stored


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "16-bit PNG", "16-bit TIFF"])
def test_an_image_is_turned_as_its_exif_says_and_once(kind, orientation):
    stored = (RAMP * 4).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"exif": exif}
    image = Image.fromarray(stored.astype(np.uint16) * 257 if kind.startswith("16") else stored)
    if kind == "WEBP":
        image, options = image.convert("RGB"), {"exif": exif, "lossless": True}
    if kind.endswith("TIFF"):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[0x0112] = orientation
        options = {"tiffinfo": tags}
    mirrored = {2: np.fliplr(stored), 4: np.flipud(stored), 5: stored.T, 7: np.rot90(stored, 2).T}
    expected = mirrored[orientation] if orientation in mirrored else np.rot90(stored, TURNS[orientation])
    assert np.abs(grey(file_of(image, kind.removeprefix("16-bit "), **options)) - expected).max() <= 1


# --- several images, formats, sizes


def frames(kind: str) -> bytes:
    first, *more = [Image.new("RGB", (8, 8), (60 * k, 0, 0)) for k in range(3)]
    return file_of(first, kind, save_all=True, append_images=more)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_images_in_a_file_are_refused(kind):
    expected = "several images in one file: save the one that is meant as a file of its own"
    assert why(frames(kind)) == expected


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")  # older Pillow, of what it wrote itself
def test_a_cameras_photo_with_its_preview_is_the_photo():
    assert (colour(frames("MPO")) == 0).all()


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "DDS", "AVIF", "JPEG2000", "ICNS"])
def test_other_formats_are_no_images_whatever_their_name(kind):
    try:
        content = file_of(Image.fromarray((RAMP * 4).astype(np.uint8)).convert("RGB").resize((32, 32)), kind)
    except (KeyError, OSError):  # this build of Pillow cannot write it, or needs another size
        pytest.skip(f"Pillow writes no {kind} here")
    assert why(content) == "no image of a kind that is read (BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)"


def test_postscript_called_png_starts_no_interpreter(tmp_path):
    """Ghostscript is looked up in PATH: one that leaves a trace is put there."""
    gs = tmp_path / "gs"
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    gs.chmod(0o755)
    (tmp_path / "x.png").write_bytes(file_of(Image.new("RGB", (8, 8)), "EPS"))
    code = f"from kd_cli.data.decoding import *\ntry: decode(read(r'{tmp_path / 'x.png'}'), (8, 8), 1)\nexcept Unusable: pass"
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PATH": path})
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(("width", "height"), [(LARGEST_IMAGE // 8 + 1, 8), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_what_would_unpack_into_gigabytes_is_refused_by_its_header(width, height):
    assert why(png(width, height, 1, 0, b"")) == f"more than {LARGEST_IMAGE:,} pixels: make it smaller"


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0"])
def test_no_image_at_all(content):
    assert why(content).startswith(("no image of a kind that is read", "empty", "damaged ("))


def test_every_cut_of_a_file_is_refused_or_decoded():
    image, said = Image.fromarray((RAMP * 4).astype(np.uint8)).resize((24, 24)), []
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"):
        whole = file_of(image, kind)
        for length in range(0, len(whole), 7):
            try:
                assert decode(whole[:length], (8, 8), 3).dtype == torch.uint8
            except Unusable as refusal:
                said.append(str(refusal))
    assert len(said) > 100
    assert not any("\n" in text for text in said)


# --- reading


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(Unusable, match=r"^cannot be read \(No such file or directory\)$"):
        read(tmp_path / "gone.png")
    with pytest.raises(Unusable, match=r"^no plain file$"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Unusable, match=r"^no plain file$"):  # opened, it would wait for ever
        read(tmp_path / "pipe.png")
    with pytest.raises(Unusable, match=r"^no plain file$"):
        read(Path("/dev/zero"))
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(Unusable, match=r"^1,073,741,825 bytes, more than the 1,073,741,824 that are read$"):
        read(tmp_path / "huge.png")


def test_too_many_open_files_is_no_fault_of_the_file(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    code = (
        "import os, resource\n"
        "from kd_cli.data.decoding import read\n"
        "from kd_cli.errors import DataError\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "held = []\n"
        "try:\n"
        "    while True: held.append(os.dup(0))\n"
        "except OSError: pass\n"
        f"try: read(r'{tmp_path / 'x.png'}')\n"
        "except DataError as error: text = str(error)\n"
        "os.close(held[0])\n"
        "print(text)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = f"{tmp_path / 'x.png'} cannot be read: Too many open files; `ulimit -n 4096` allows more.\n"
    assert done.stdout == expected
