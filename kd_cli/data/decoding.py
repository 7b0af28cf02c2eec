"""How an image file becomes pixels, by rules that are the same for every file; what they do not cover is refused.

Grey, colour and palettes of up to 8 bits are taken as they are, CMYK by Pillow's formula. Grey of 9 to 16 bits is
scaled from the range that its header states to 0 … 255, or like floats and 32 bits from one that is asked for. What is
transparent is laid on white. An image is turned as its EXIF says, scaled to cover the size that is wanted, and cut at
its centre. A JPEG of many times that size is decoded at a half, a quarter or an eighth of its own.
"""

import errno
import os
import stat
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from kd_cli.data.shades import Range, Unscaled, Unusable, scaled
from kd_cli.errors import DataError, KdError, first_line, reason
from kd_cli.extras import library

VERSION = 2  # raised whenever a file gives other pixels than before by the same `rule`
EXTENSIONS = frozenset(
    (
        ".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx",
        ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
# no other of Pillow's readers is ever started, but HEIF's for its files
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
LARGEST_FILE = 1 << 30  # bytes
LARGEST_IMAGE = 89_478_485  # pixels, where Pillow begins to warn: a few kilobytes can unpack into gigabytes
FLAT = 8  # of 255: what differs by less is one shade
SAVE_AS_COLOUR = "save it as 8-bit grey or colour"
OPAQUE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
TRANSPARENT = {"LA": "LA", "PA": "PA", "RGBA": "RGBA", "La": "LA", "RGBa": "RGBA"}  # and what each is first made into
QUARTER = 64  # of 256
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
ORIENTATION, ON_ITS_SIDE = 274, (5, 6, 7, 8)  # a tag of EXIF, and its values
SPARE = 3  # times the wanted size: what a JPEG that is decoded smaller has at least
WHITE_IS_ZERO, UNSIGNED = 0, 1  # and their values

# What Pillow finds odd about a file is either refused here or of no consequence.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Decoded(NamedTuple):
    """Pixels, uint8 `[channels, height, width]`; the file's format, width and height; and the `rule` by which it was
    decoded, where that is not the one for all.
    """

    pixels: Tensor
    format: str
    size: tuple[int, int]
    rule: str


def read_image(path: str | Path) -> bytes:
    """Return a file's bytes. Raises Unusable, or DataError where it is not the file's fault."""
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


def decode(content: bytes, size: tuple[int, int], channels: int, scale: Range = None) -> Tensor:
    """Return an image file's pixels, uint8 `[channels, height, width]`, as `decoded` has them."""
    return decoded(content, size, channels, scale).pixels


def decoded(content: bytes, size: tuple[int, int], channels: int, scale: Range = None) -> Decoded:
    """Return an image file's pixels for a height and width, with what the file is; Unusable where no rule makes them.
    Deep grey is scaled from `scale`.
    """
    try:
        with Image.open(BytesIO(content), formats=_formats(content)) as file:
            _check(file)
            kind, its_size = str(file.format), file.size
            rule = "reduced" if _reduced(file, size) else ""
            image = _eight_bits(file, scale)
            if scale is not None and image.mode == "L" and file.mode not in OPAQUE:
                rule = f"from {scale}"
            image = _opaque(image)
            wanted = "L" if channels == 1 else "RGB"
            for mode in (wanted if image.mode in ("1", "L") else "RGB", wanted):
                image = image if image.mode == mode else image.convert(mode)  # which copies
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    except (Unusable, KdError):
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise Unusable(f"no image of a kind that is read ({kinds})" if content else "empty") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unusable(_too_large()) from None
    except Exception as error:  # damaged headers make Pillow raise whatever the bytes lead it to
        raise Unusable(f"damaged ({first_line(error)})") from error
    return Decoded(pixels.view(size[0], size[1], channels).permute(2, 0, 1).contiguous(), kind, its_size, rule)


def _formats(content: bytes) -> tuple[str, ...]:
    """Pillow's readers for a file: HEIF's is a library of its own, and comes in for its files alone."""
    brands = content[8:64]
    if content[4:8] != b"ftyp" or content[8:12] not in HEIF_BRANDS or b"avif" in brands:
        return FORMATS
    library("pillow_heif", "heic", "reading HEIC").register_heif_opener()
    return ("HEIF",)


def _reduced(file: ImageFile.ImageFile, size: tuple[int, int]) -> bool:
    """Has a JPEG decoded at a fraction of its size, where that leaves enough to scale; whether it will be."""
    if file.format not in ("JPEG", "MPO"):
        return False
    height, width = size if file.getexif().get(ORIENTATION) not in ON_ITS_SIDE else size[::-1]
    before = file.size
    file.draft(None, (SPARE * width, SPARE * height))
    return file.size != before


def _check(file: Image.Image) -> None:
    """Refuses by the header what would be decoded into too much, or into one of several images."""
    if file.width * file.height > LARGEST_IMAGE:
        raise Unusable(_too_large())
    if file.format != "MPO" and getattr(file, "n_frames", 1) > 1:  # a camera's MPO begins with the photo itself
        raise Unusable("several images in one file: save the one that is meant as a file of its own")


def _too_large() -> str:
    return f"more than {LARGEST_IMAGE:,} pixels: make it smaller"


def _eight_bits(file: ImageFile.ImageFile, scale: Range) -> Image.Image:
    """The image upright; grey of more than 8 bits scaled to 8 from `scale`, else from the range its header states."""
    kind, tags, deep = file.format, getattr(file, "tag_v2", {}), _is_deep(file)  # an upright copy has none of them
    image = ImageOps.exif_transpose(file)
    unsigned = tags.get(SAMPLE_FORMAT, (1,))[0] == UNSIGNED
    numbers = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if not numbers and not (unsigned and (image.mode in OPAQUE or image.mode in TRANSPARENT)):
        raise Unusable(f"pixels of a kind ({image.mode}) that nothing says how to scale: {SAVE_AS_COLOUR}")
    if not numbers:
        if deep and image.mode.startswith("RGB"):
            _check_range(image)
        return image
    if "transparency" in image.info:
        raise Unusable(f"16-bit grey with a transparent shade: {SAVE_AS_COLOUR}")
    bits = tags.get(BITS, (16,))[0]
    values = np.asarray(image)
    if image.mode == "I" and unsigned and bits == 32:  # which Pillow holds as signed numbers
        values = values.view(np.uint32)
    stated = unsigned and (image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")))
    shades = scaled(values, scale) if scale is not None else _by_header(values, bits if stated else None, image.mode)
    return Image.fromarray(255 - shades if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else shades)


def _by_header(values: np.ndarray[Any, Any], bits: int | None, mode: str) -> np.ndarray[Any, Any]:
    """Grey values as shades, from 0 to the highest that so many bits hold; Unscaled where that cannot be meant."""
    if bits is None:
        kinds = f"{mode}: 32-bit, signed, floating-point or another"
        raise Unscaled(f"pixels of a kind ({kinds}) that nothing says how to scale: {SAVE_AS_COLOUR}", values)
    full = 2**bits - 1
    values = values.astype(np.int32)
    if 0 < values.max() < full / 4:
        raise Unscaled(
            f"grey values of at most {values.max():,} where its header allows {full:,}, which would be nearly black: "
            "save it as 8-bit grey, scaled to 0 … 255",
            values,
        )
    shades: np.ndarray[Any, Any] = ((values * 255 + full // 2) // full).astype(np.uint8)
    return shades


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
