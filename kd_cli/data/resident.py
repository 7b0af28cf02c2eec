"""A data set held in memory: moved to the device once, batched there by index."""

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from rich.filesize import decimal
from torch import Tensor

from kd_cli.data.inputs import Inputs, count, each, rows, tensors
from kd_cli.data.spec import Spec, image_spec, no_images
from kd_cli.device import fits
from kd_cli.progress import log


class Resident:
    """Samples in memory. Without a `spec` they are images, uint8 `[N, channels, height, width]`."""

    def __init__(self, values: Inputs, spec: Spec | None = None) -> None:
        if spec is None:
            if not isinstance(values, Tensor) or values.dtype != torch.uint8 or values.ndim != 4:
                shown = tensors(values)[0]
                raise no_images(f"{str(shown.dtype).removeprefix('torch.')} samples of {list(shown.shape[1:])}")
            spec = image_spec(values.shape[1:])
        spec.check(values)
        spec.check_values(values)
        self.spec, self.values = spec, each(values, torch.Tensor.contiguous)
        self._placed: dict[torch.device, Inputs] = {torch.device("cpu"): self.values}

    def __len__(self) -> int:
        return count(self.values)

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Inputs]:
        """Yield each batch by one gather on `device`, or in memory where the device has no room for all samples."""
        if device not in self._placed:
            size = sum(value.nbytes for value in tensors(self.values))
            there = fits(device, size)
            if not there:
                shown = decimal(size), self.spec.noun
                log.info("%s of %s do not fit on the device beside training: streamed", *shown)
            self._placed[device] = each(self.values, lambda value: value.to(device)) if there else self.values
        placed = self._placed[device]
        where = tensors(placed)[0].device
        for positions in batches:
            chosen = positions.to(where)
            # index_select copies whole images; values[…] goes byte by byte
            yield each(placed, lambda value: value.index_select(0, chosen).to(device, non_blocking=True))  # noqa: B023

    def checksums(self) -> Tensor:
        """CRC-32 of each sample."""
        found = [0] * len(self)
        for value in tensors(self.values):
            found = [zlib.crc32(row, so_far) for row, so_far in zip(value.flatten(1).numpy(), found, strict=True)]
        return torch.tensor(found, dtype=torch.int64)

    def select(self, positions: Tensor) -> "Resident":
        """Return the samples at these positions, copied."""
        return Resident(rows(self.values, positions), self.spec)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape and bytes."""
        sha = hashlib.sha256()
        if self.spec.kind != "image":
            sha.update(json.dumps(self.spec.stored()).encode())
        for value in tensors(self.values):
            sha.update(f"{tuple(value.shape)}{'' if value.dtype == torch.uint8 else value.dtype}".encode())
            sha.update(value.reshape(-1).numpy().data)
        return sha.hexdigest()
