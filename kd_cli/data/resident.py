"""A data set held as one uint8 tensor: moved to the device once, batched there by index."""

import hashlib
import logging
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from rich.filesize import decimal
from torch import Tensor

from kd_cli.data.samples import no_images
from kd_cli.device import fits

log = logging.getLogger("kd")


class Resident:
    """Images in memory, uint8 `[N, channels, height, width]`."""

    def __init__(self, pixels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise no_images(f"{str(pixels.dtype).removeprefix('torch.')} samples of {list(pixels.shape[1:])}")
        self.pixels = pixels.contiguous()
        self._placed: dict[torch.device, Tensor] = {torch.device("cpu"): self.pixels}

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return tuple(self.pixels.shape[1:])

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        """Each batch by one gather on `device`, or in memory where the device has no room for all images."""
        if device not in self._placed:
            there = fits(device, self.pixels.nbytes)
            if not there:
                size = decimal(self.pixels.nbytes)
                log.info("%s of images do not fit on the device beside training: streamed", size)
            self._placed[device] = self.pixels.to(device) if there else self.pixels
        pixels = self._placed[device]
        for positions in batches:
            # index_select copies whole images; pixels[…] goes byte by byte
            yield pixels.index_select(0, positions.to(pixels.device)).to(device, non_blocking=True)

    def checksums(self) -> Tensor:
        """CRC-32 of each image."""
        rows = self.pixels.flatten(1).numpy()
        return torch.tensor([zlib.crc32(row) for row in rows], dtype=torch.int64)

    def select(self, positions: Tensor) -> "Resident":
        """The images at these positions, copied."""
        return Resident(self.pixels[positions])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape and pixels."""
        sha = hashlib.sha256(f"{tuple(self.pixels.shape)}".encode())
        sha.update(self.pixels.reshape(-1).numpy().data)
        return sha.hexdigest()
