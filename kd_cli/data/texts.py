"""Texts as samples: their UTF-8 bytes, out of which each network makes tokens by a tokenizer of its own.

Teacher and student may so read the same sample by different tokenizers, and augmentation, dump and join check know
nothing of any. The two texts of a pair are parted by a byte that is in no UTF-8.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kd_cli.data.spec import BYTES, Spec

PART = b"\xff"  # between the two texts of a pair
POOL = 32  # batches whose texts are sorted by their lengths: the more, the less padding and the less chance
Text = str | tuple[str, str]


class Texts:
    """Texts in memory, one after the other in `content`, each of at most `longest` bytes."""

    def __init__(self, content: np.ndarray, lengths: Tensor, longest: int) -> None:
        self.content, self.lengths = content, lengths
        self.spec = Spec("text", (longest,), vocabulary=BYTES)
        self._starts = (lengths.cumsum(0) - lengths).tolist()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, position: int) -> bytes:
        """The bytes of a text."""
        start = self._starts[position]
        return self.content[start : start + int(self.lengths[position])].tobytes()

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        """Yield each batch as uint8 `[n, longest]`, filled up with zeros."""
        for positions in batches:
            yield padded([self[k] for k in positions.tolist()], self.spec.shape[0]).to(device, non_blocking=True)

    def checksums(self) -> Tensor:
        """CRC-32 of each text's bytes."""
        return torch.tensor([zlib.crc32(self[k]) for k in range(len(self))], dtype=torch.int64)

    def select(self, positions: Tensor) -> "Texts":
        """Return the texts at these positions, copied."""
        return stored([self[k] for k in positions.tolist()], self.spec.shape[0])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what they are, of their lengths and of their bytes."""
        sha = hashlib.sha256(json.dumps(self.spec.stored()).encode())
        sha.update(self.lengths.numpy().data)
        sha.update(self.content.data)
        return sha.hexdigest()


def stored(texts: Sequence[bytes], longest: int) -> Texts:
    """Return these bytes as samples."""
    content = np.frombuffer(b"".join(texts), np.uint8)
    return Texts(content, torch.tensor([len(text) for text in texts], dtype=torch.int64), longest)


def encoded(text: Text, longest: int) -> bytes:
    """Return a text's bytes, cut off where they are more than `longest`; of a pair the longer one first. A zero byte,
    which stands for no text, becomes a blank.
    """
    parts = [text] if isinstance(text, str) else list(text)
    raw = [part.replace("\0", " ").encode("utf-8", "replace") for part in parts]
    if len(raw) == 1:
        return _whole(raw[0][:longest])
    room = longest - len(PART)
    first = _whole(raw[0][: max(room - room // 2, room - len(raw[1]))])
    return first + PART + _whole(raw[1][: room - len(first)])


def _whole(cut: bytes) -> bytes:
    """The bytes without a last character that was cut through."""
    return cut.decode("utf-8", "ignore").encode()


def padded(texts: Sequence[bytes], longest: int) -> Tensor:
    """Return the texts as uint8 `[n, longest]`."""
    return torch.frombuffer(bytearray(b"".join(text.ljust(longest, b"\0") for text in texts)), dtype=torch.uint8).view(
        len(texts), longest
    )


def bytes_of(inputs: Tensor) -> list[bytes]:
    """Return the reverse of `padded`, also of what a network is shown."""
    rows = inputs.to("cpu", torch.uint8).numpy()
    flat, width = rows.tobytes(), rows.shape[1]
    return [flat[k * width : k * width + end] for k, end in enumerate(np.count_nonzero(rows, axis=1).tolist())]


def texts_of(text: bytes) -> list[str]:
    """Return the text, or the two of a pair, as words."""
    return [part.decode("utf-8", "replace") for part in text.split(PART)]


def of_like_lengths(order: Tensor, lengths: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """This order of samples, changed such that batches hold texts of like lengths: sorted within pools of `POOL`
    batches, the batches then shuffled.
    """
    batches: list[Tensor] = []
    for pool in order.split(POOL * batch_size):
        batches += pool[lengths[pool].argsort(stable=True)].split(batch_size)
    *full, last = batches  # only the last may be short
    return torch.cat([*(full[k] for k in torch.randperm(len(full), generator=generator).tolist()), last])
