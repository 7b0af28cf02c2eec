"""Images on disk as samples: scanned once, kept in memory or decoded again when they are asked for."""

import hashlib
import os
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from kd_cli.data.decoding import VERSION, decode, decoded, read_image
from kd_cli.data.inputs import Inputs
from kd_cli.data.layout import File
from kd_cli.data.resident import Resident
from kd_cli.data.shades import Range, Unscaled, Unusable
from kd_cli.data.spec import Spec, image_spec
from kd_cli.data.splits import NEARLY_CONSTANT
from kd_cli.errors import DataError
from kd_cli.screen import shown

AHEAD = 2  # batches
MOST_THREADS = 8  # each of which may hold an image of the largest size, unpacked


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Way:
    """How images are brought to one form: `size` is height and width, `scale` that of deep grey; `workers` threads
    decode ahead (0: one, when asked for).
    """

    size: tuple[int, int]
    channels: int
    workers: int
    scale: Range

    @property
    def spec(self) -> Spec:
        """What each image becomes."""
        return image_spec((self.channels, *self.size))


class ImageFiles:
    """Images on disk: `pixels` in memory, or decoded ahead by threads.

    Pillow decodes without holding the interpreter's lock, and threads need neither shared memory nor a start. `names`
    are paths below the root, `sha` digests of the files, `rules` how each is decoded, where not as all are.
    """

    def __init__(
        self,
        files: list[File],
        crc: Tensor,
        sha: list[str],
        rules: list[str],
        way: Way,
        pixels: Resident | None = None,
    ) -> None:
        self.files, self.crc, self.sha, self.rules, self.way, self.pixels = files, crc, sha, rules, way, pixels

    def __len__(self) -> int:
        return len(self.files)

    @property
    def names(self) -> list[str]:
        """Each file's path below the root, with `/`."""
        return [file.name for file in self.files]

    @property
    def paths(self) -> list[str]:
        """Each file's path."""
        return [str(file.path) for file in self.files]

    @property
    def spec(self) -> Spec:
        """Images of one size."""
        return self.way.spec

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Inputs]:
        """Yield each batch; DataError where a file is no longer what it was."""
        if self.pixels is not None:
            yield from self.pixels.stream(batches, device)
            return
        ahead = AHEAD if self.way.workers else 0
        waiting: deque[list[Future[Tensor]]] = deque()
        pool = ThreadPoolExecutor(max(1, min(self.way.workers, _cores(), MOST_THREADS)))
        try:
            for positions in batches:
                waiting.append([pool.submit(self._decoded, k) for k in positions.tolist()])
                if len(waiting) > ahead:
                    yield _together(waiting.popleft(), device)
            while waiting:
                yield _together(waiting.popleft(), device)
        finally:
            pool.shutdown(cancel_futures=True)

    def _decoded(self, position: int) -> Tensor:
        path = self.files[position].path
        try:
            content = read_image(path)
            if zlib.crc32(content) != int(self.crc[position]):
                raise Unusable("changed")
            return decode(content, self.way.size, self.way.channels, self.way.scale)
        except Unusable as why:
            hint = "Put it back as it was: the same command then goes on."
            raise DataError(f"{path} could be decoded when the data were loaded, and now: {why}. {hint}") from why

    def checksums(self) -> Tensor:
        """CRC-32 of each file."""
        return self.crc

    def select(self, positions: Tensor) -> "ImageFiles":
        """Return the files at these positions."""
        chosen = positions.tolist()
        return ImageFiles(
            [self.files[k] for k in chosen],
            self.crc[positions],
            [self.sha[k] for k in chosen],
            [self.rules[k] for k in chosen],
            self.way,
            self.pixels.select(positions) if self.pixels is not None else None,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the files' digests and the way they are decoded."""
        height, width = self.way.size
        how = f"{VERSION} {height if height == width else f'{height}x{width}'} {self.way.channels}"
        each = " ".join(sha + rule for sha, rule in zip(self.sha, self.rules, strict=True))
        return hashlib.sha256(f"{how} {each}".encode()).hexdigest()


def _together(images: list[Future[Tensor]], device: torch.device) -> Tensor:
    return torch.stack([image.result() for image in images]).to(device)


@dataclass
class Scan:
    """What the files of all parts turned out to be: their formats, widths and heights; those that cannot be decoded, a
    line each, among them the `unscaled`; the names of those that hold hardly more than one shade.
    """

    formats: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    unscaled: list[Unscaled] = field(default_factory=list)
    flat: list[str] = field(default_factory=list)

    def files(self, files: list[File], way: Way, keep: bool) -> ImageFiles:
        """Return these files as samples, each decoded once; with `keep` their pixels stay."""
        height, width = way.size
        pixels = torch.empty(len(files) if keep else 0, way.channels, height, width, dtype=torch.uint8)
        crc, sha, rules = torch.zeros(len(files), dtype=torch.int64), [""] * len(files), [""] * len(files)

        def look(position: int) -> tuple[str, tuple[int, int], bool] | Unusable:
            try:
                content = read_image(files[position].path)
                image = decoded(content, way.size, way.channels, way.scale)
            except Unusable as why:
                return why
            if keep:
                pixels[position] = image.pixels
            crc[position], sha[position] = zlib.crc32(content), hashlib.sha256(content).hexdigest()
            rules[position] = image.rule
            return image.format, image.size, float(image.pixels.float().std(correction=0)) < NEARLY_CONSTANT

        with ThreadPoolExecutor(min(_cores(), MOST_THREADS)) as pool:
            for file, found in zip(files, pool.map(look, range(len(files))), strict=True):
                if isinstance(found, Unusable):
                    self.bad.append(shown(f"{file.path}: {found}"))
                    self.unscaled += [found] if isinstance(found, Unscaled) else []
                    continue
                self.formats.append(found[0])
                self.sizes.append(found[1])
                self.flat += [file.name] if found[2] else []
        return ImageFiles(files, crc, sha, rules, way, Resident(pixels) if keep else None)

    @property
    def extent(self) -> str:
        """From the smallest to the largest size, by pixels."""
        ends = sorted(set(self.sizes), key=lambda size: (size[0] * size[1], size))
        return " to ".join(f"{width}×{height}" for width, height in (ends[0], *ends[-1:][: len(ends) - 1])) + " pixels"
