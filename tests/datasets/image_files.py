"""Small folders of images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd_cli.datasets.image_folder import image_folder
from kd_cli.errors import DataError


def draw(path: Path, seed: int, size: tuple[int, int] = (12, 9), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode=None).save(path)
    return path


def load_folder(root: Path, **changes: object):
    return image_folder(str(root), **{"size": 6, "workers": 0} | changes)


def refusal_of(read: Callable[[], object]) -> str:
    """The one message that reading ends in."""
    with pytest.raises(DataError) as refusal:
        read()
    return str(refusal.value)
