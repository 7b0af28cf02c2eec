"""Which files are images: turned photos, several in one, damaged and unreadable ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from image_bytes import RAMP, colour, file_of, grey, png, why
from PIL import Image, TiffImagePlugin

from kd_cli.data.decoding import LARGEST_FILE, LARGEST_IMAGE, decode, read_image
from kd_cli.data.shades import Unusable

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


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "DDS", "ICNS"])
def test_other_formats_are_no_images_whatever_their_name(kind):
    try:
        content = file_of(Image.fromarray((RAMP * 4).astype(np.uint8)).convert("RGB").resize((32, 32)), kind)
    except (KeyError, OSError):  # this build of Pillow cannot write it, or needs another size
        pytest.skip(f"Pillow writes no {kind} here")
    assert why(content) == "no image of a kind that is read (AVIF, BMP, GIF, JPEG, JPEG2000, PNG, PPM, TIFF, WEBP)"


def test_postscript_called_png_starts_no_interpreter(tmp_path):
    """Ghostscript is looked up in PATH: one that leaves a trace is put there."""
    gs = tmp_path / "gs"
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    gs.chmod(0o755)
    (tmp_path / "x.png").write_bytes(file_of(Image.new("RGB", (8, 8)), "EPS"))
    read = f"decode(read_image(r'{tmp_path / 'x.png'}'), (8, 8), 1)"
    code = f"from kd_cli.data.decoding import *\ntry: {read}\nexcept Unusable: pass"
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
        read_image(tmp_path / "gone.png")
    with pytest.raises(Unusable, match=r"^no plain file$"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Unusable, match=r"^no plain file$"):  # opened, it would wait for ever
        read_image(tmp_path / "pipe.png")
    with pytest.raises(Unusable, match=r"^no plain file$"):
        read_image(Path("/dev/zero"))
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(Unusable, match=r"^1,073,741,825 bytes, more than the 1,073,741,824 that are read$"):
        read_image(tmp_path / "huge.png")


def test_too_many_open_files_is_no_fault_of_the_file(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    code = (
        "import os, resource\n"
        "from kd_cli.data.decoding import read_image\n"
        "from kd_cli.errors import DataError\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "held = []\n"
        "try:\n"
        "    while True: held.append(os.dup(0))\n"
        "except OSError: pass\n"
        f"try: read_image(r'{tmp_path / 'x.png'}')\n"
        "except DataError as error: text = str(error)\n"
        "os.close(held[0])\n"
        "print(text)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = f"{tmp_path / 'x.png'} cannot be read: Too many open files; `ulimit -n 4096` allows more.\n"
    assert done.stdout == expected
