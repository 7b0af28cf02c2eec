"""How an image file becomes pixels, by rules that are the same for every file; what they do not cover is refused.

Grey, colour and palettes of up to 8 bits are taken as they are, CMYK by Pillow's formula. Grey of 9 to 16 bits is
scaled from the range that its header states to 0 … 255. What is transparent is laid on white. An image is turned as its
EXIF says, scaled to cover the size that is wanted, and cut at its centre.
"""

import errno
import os
import stat
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from kd_cli.errors import DataError, first_line, reason

VERSION = 2  # raised whenever a file gives other pixels than before
EXTENSIONS = frozenset(
    (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no other of Pillow's readers is ever started
LARGEST_FILE = 1 << 30  # bytes
LARGEST_IMAGE = 89_478_485  # pixels, where Pillow begins to warn: a few kilobytes can unpack into gigabytes
FLAT = 8  # of 255: what differs by less is one shade
OPAQUE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
TRANSPARENT = {"LA": "LA", "PA": "PA", "RGBA": "RGBA", "La": "LA", "RGBa": "RGBA"}  # and what each is first made into
QUARTER = 64  # of 256
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, UNSIGNED = 0, 1  # and their values

# What Pillow finds odd about a file is either refused here or of no consequence.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unusable(Exception):
    """Why a file cannot be used as an image: a text that completes `<path>: …`."""


def read_image(path: str | Path) -> bytes:
    """A file's bytes. Raises Unusable, or DataError where it is not the file's fault."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise Unusable("no plain file")
        if found.st_size > LARGEST_FILE:
            raise Unusable(f"{found.st_size:,} bytes, more than the {LARGEST_FILE:,} that are read")
        return Path(path).read_bytes()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise DataError(f"{path} cannot be read: {reason(error)}.") from error
        raise Unusable(f"cannot be read ({reason(error)})") from error


def decode(content: bytes, size: tuple[int, int], channels: int) -> Tensor:
    """An image file's pixels, uint8 `[channels, height, width]`; Unusable where no rule makes them."""
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as file:
            _check(file)
            image = _opaque(_eight_bits(file))
            wanted = "L" if channels == 1 else "RGB"
            for mode in (wanted if image.mode in ("1", "L") else "RGB", wanted):
                image = image if image.mode == mode else image.convert(mode)  # which copies
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    except Unusable:
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise Unusable(f"no image of a kind that is read ({kinds})" if content else "empty") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unusable(_too_large()) from None
    except Exception as error:  # damaged headers make Pillow raise whatever the bytes lead it to
        raise Unusable(f"damaged ({first_line(error)})") from error
    return pixels.view(size[0], size[1], channels).permute(2, 0, 1).contiguous()


def _check(file: Image.Image) -> None:
    """Refuses by the header what would be decoded into too much, or into one of several images."""
    if file.width * file.height > LARGEST_IMAGE:
        raise Unusable(_too_large())
    if file.format != "MPO" and getattr(file, "n_frames", 1) > 1:  # a camera's MPO begins with the photo itself
        raise Unusable("several images in one file: save the one that is meant as a file of its own")


def _too_large() -> str:
    return f"more than {LARGEST_IMAGE:,} pixels: make it smaller"


def _eight_bits(file: ImageFile.ImageFile) -> Image.Image:
    """The image upright, grey of more than 8 bits scaled to 8 from the range that its header states."""
    kind, tags, deep = file.format, getattr(file, "tag_v2", {}), _is_deep(file)  # an upright copy has none of them
    image = ImageOps.exif_transpose(file)
    grey = image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM"))  # those hold 16 bits at most
    if tags.get(SAMPLE_FORMAT, (1,))[0] != UNSIGNED or not (grey or image.mode in OPAQUE or image.mode in TRANSPARENT):
        raise Unusable(
            f"pixels of a kind ({image.mode}: 32-bit, signed, floating-point or another) that nothing says how to "
            "scale: save it as 8-bit grey or colour"
        )
    if not grey:
        if deep and image.mode.startswith("RGB"):
            _check_range(image)
        return image
    full = 2 ** tags.get(BITS, (16,))[0] - 1
    values = np.asarray(image).astype(np.int32)
    if 0 < values.max() < full / 4:
        raise Unusable(
            f"grey values of at most {values.max():,} where its header allows {full:,}, which would be nearly black: "
            "save it as 8-bit grey, scaled to 0 … 255"
        )
    if "transparency" in image.info:
        raise Unusable("16-bit grey with a transparent shade: save it as 8-bit grey or colour")
    scaled = (values * 255 + full // 2) // full
    return Image.fromarray((255 - scaled if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else scaled).astype(np.uint8))


def _is_deep(file: ImageFile.ImageFile) -> bool:
    """Whether the header states more than 8 bits a channel, of which Pillow keeps the upper 8."""
    if not file.tile:  # WebP
        return False
    codec, _, _, how = file.tile[0]
    return ";16" in str(how) or (codec.startswith("ppm") and isinstance(how, tuple) and how[1] > 255)


def _check_range(image: Image.Image) -> None:
    """Refuses colour of which the upper 8 bits hold next to nothing: it has fewer bits than its header states."""
    highest = np.array(image.getextrema())[:3, 1].max()
    if highest <= QUARTER and (highest > 0 or image.mode == "RGB"):  # black with transparency is an icon
        raise Unusable(
            "colours that stay below a quarter of the range that its header allows, which would be nearly black: save "
            "it as 8-bit colour, scaled to 0 … 255"
        )


def _opaque(image: Image.Image) -> Image.Image:
    """The image on white ground; refused where nothing of it can be seen there."""
    if image.mode not in TRANSPARENT and "transparency" not in image.info:
        return image
    seen = image.convert(TRANSPARENT.get(image.mode, image.mode)).convert("RGBA")
    laid = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    if _flat(laid) and not _flat(seen):
        raise Unusable("of one shade on the white ground that transparent images are laid on: save it on another")
    return laid.convert("RGB")


def _flat(image: Image.Image) -> bool:
    return bool((np.ptp(np.array(image.getextrema()), axis=1) < FLAT).all())
