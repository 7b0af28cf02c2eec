"""Damage to a file."""

from pathlib import Path

import torch

CPU = torch.device("cpu")


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
