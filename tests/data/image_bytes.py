"""Image files made byte by byte, and what kd reads of them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kd_cli.data.decoding import decode
from kd_cli.data.shades import Unusable

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
