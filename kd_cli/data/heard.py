"""Samples made of sound files: whole sounds, or frames of their spectra with what surrounds them."""

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kd_cli.data.hearing import Hearing
from kd_cli.data.inputs import Inputs
from kd_cli.data.resident import Resident
from kd_cli.data.sounds import VERSION
from kd_cli.data.spec import Spec
from kd_cli.device import fits


def spec_of(hearing: Hearing, mask: bool = False) -> Spec:
    """Return what samples that are heard so are; with a `mask` of what is sound and what is padded."""
    parts = ("mask", "sound") if mask else ()
    if hearing.features == "waveform":
        return Spec("audio", hearing.shape, sample_rate=hearing.rate, parts=parts)
    return Spec("features", hearing.shape, parts=parts, hearing=hearing)


@dataclass(frozen=True)
class Heard:
    """All sounds, in the order of their files: `values` are whole sounds `[N, …]`, or their spectra one after the other
    `[frames, channels]`; `lengths` how much of each is sound, in samples or in frames; `sha` SHA-256 of their bytes.
    """

    names: tuple[str, ...]
    sha: tuple[str, ...]
    values: Tensor
    lengths: Tensor  # int64 [N]


@dataclass(frozen=True)
class Origin:
    """Where each sample of a set comes from: the `file` of `sha`, SHA-256 of each file's bytes, and the `frame` of it,
    0 of a whole sound. Numbers that a processor computes differ in their last bits; these do not.
    """

    sha: tuple[str, ...]
    file: Tensor  # int64 [N]
    frame: Tensor  # int64 [N]

    def select(self, positions: Tensor) -> "Origin":
        """Those of the samples at these positions."""
        return Origin(self.sha, self.file[positions], self.frame[positions])

    def checksums(self) -> Tensor:
        """CRC-32 for each sample, int64 `[N]`."""
        pairs = zip(self.file.tolist(), self.frame.tolist(), strict=True)
        return torch.tensor([zlib.crc32(f"{self.sha[k]} {frame}".encode()) for k, frame in pairs], dtype=torch.int64)

    def digest(self, about: str) -> str:
        """SHA-256 over the files and the frames, in order, and over how they are heard."""
        found = hashlib.sha256(f"{VERSION} {about}".encode())
        for file, frame in zip(self.file.tolist(), self.frame.tolist(), strict=True):
            found.update(f"{self.sha[file]} {frame};".encode())
        return found.hexdigest()


class Recordings:
    """Files of sounds, each a sample as it was heard; of frames, what they are to be cut from. With `masked`, a mask
    beside each says what is sound and what is padded.
    """

    def __init__(self, heard: Heard, file: Tensor, hearing: Hearing, masked: bool = False) -> None:
        self.heard, self.file, self.hearing, self.masked = heard, file, hearing, masked
        self.spec = spec_of(hearing, masked)
        self.names = [heard.names[k] for k in file.tolist()]
        self.sha = [heard.sha[k] for k in file.tolist()]

    def __len__(self) -> int:
        return len(self.file)

    @cached_property
    def origin(self) -> Origin:
        """Which file each is."""
        return Origin(self.heard.sha, self.file, torch.zeros_like(self.file))

    @cached_property
    def _resident(self) -> Resident:
        sounds = self.heard.values[self.file]
        if self.masked:
            mask = mask_of(self.heard.lengths[self.file], self.spec.shape)
            return Resident({"sound": sounds, "mask": mask}, self.spec)
        return Resident(sounds, self.spec)

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Inputs]:
        """Return each batch, on `device`."""
        return self._resident.stream(batches, device)

    def checksums(self) -> Tensor:
        """CRC-32 for each sample."""
        return self.origin.checksums()

    def select(self, positions: Tensor) -> "Recordings":
        """Return the sounds at these positions."""
        return Recordings(self.heard, self.file[positions], self.hearing, self.masked)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the files and of how they are heard."""
        return self.origin.digest(json.dumps(self.spec.stored()))


def mask_of(lengths: Tensor, shape: tuple[int, ...]) -> Tensor:
    """1 where a sound of so much is, 0 where it is padded; uint8 `[N, *shape]`."""
    there = (torch.arange(shape[-1]) < lengths[:, None]).to(torch.uint8)
    return there.view(len(lengths), *[1] * (len(shape) - 1), shape[-1]).expand(-1, *shape).contiguous()


class Frames:
    """Frames `[channels, 2 · context + 1]` around each of `rows`, cut out of the spectra when they are asked for.

    `spectra` are those of all sounds, one after the other, float16 `[frames, channels]`; `ends` are the first and the
    last row of each sample's sound, int64 `[2, N]`: beyond them the outermost frame is repeated.
    """

    def __init__(self, spectra: Tensor, rows: Tensor, ends: Tensor, origin: Origin, hearing: Hearing) -> None:
        self.spectra, self.rows, self.ends, self.origin, self.hearing = spectra, rows, ends, origin, hearing
        self.spec = spec_of(hearing)
        self._placed: dict[torch.device, Tensor] = {torch.device("cpu"): spectra}

    def __len__(self) -> int:
        return len(self.rows)

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Inputs]:
        """Yield each batch, cut on `device`, or in memory where the device has no room for the spectra."""
        if device not in self._placed:
            self._placed[device] = self.spectra.to(device) if fits(device, self.spectra.nbytes) else self.spectra
        placed, context = self._placed[device], self.hearing.context or 0
        around = torch.arange(-context, context + 1)
        for positions in batches:
            chosen = positions.cpu()
            first, last = self.ends[:, chosen]
            rows = (self.rows[chosen, None] + around).clamp(first[:, None], last[:, None])
            cut = placed.index_select(0, rows.flatten().to(placed.device)).view(len(chosen), len(around), -1)
            yield cut.transpose(1, 2).to(device, non_blocking=True)

    def checksums(self) -> Tensor:
        """CRC-32 for each frame, of its file and its number."""
        return self.origin.checksums()

    def select(self, positions: Tensor) -> "Frames":
        """Return the frames at these positions, of the same spectra."""
        return Frames(
            self.spectra, self.rows[positions], self.ends[:, positions], self.origin.select(positions), self.hearing
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the files, of the frames and of how they are heard."""
        return self.origin.digest(json.dumps(self.spec.stored()))
