"""A tokenizer as the first layer of a network, so that teacher and student may differ in it.

Each text is tokenised once in a process by each tokenizer, however many networks have it. The tokenizer is stored with
the weights.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kd_cli.data.spec import BYTES, Spec
from kd_cli.data.texts import bytes_of, texts_of
from kd_cli.errors import Phrase, must
from kd_cli.extras import library

TOKENIZERS = 8  # in memory at a time
KEPT = 1 << 20  # tokenised texts of each


class Tokens(NamedTuple):
    """A batch of tokenised texts, each filled up to the longest with what `mask` leaves out; int64 `[n, longest]`."""

    ids: Tensor
    lengths: Tensor  # int64 [n], each ≥ 1
    kinds: Tensor  # 1 for the second text of a pair

    @property
    def mask(self) -> Tensor:
        """True where a token is, `[n, longest]`."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]

    def rows(self, chosen: Tensor) -> "Tokens":
        """Return these texts, filled up to the longest of them."""
        lengths = self.lengths[chosen]
        end = int(lengths.max())
        return Tokens(self.ids[chosen, :end], lengths, self.kinds[chosen, :end])


class Tokenise(nn.Module):
    """Texts as bytes, `[n, bytes]` → `Tokens` of at most `longest`, by the tokenizer whose JSON is `description`."""

    def __init__(self, description: str, longest: int) -> None:
        super().__init__()
        self.description, self.longest = description, longest

    def forward(self, inputs: Tensor) -> Tokens:
        """Return tokens on the device of the texts."""
        if not self.description:
            raise must(".model", "a network whose tokenizer is known", Phrase("one that was given no texts"))
        found = _reader(self.description, self.longest)(bytes_of(inputs))
        lengths = np.array([len(ids) for ids, _ in found])
        ids = np.zeros((len(found), lengths.max()), np.int64)
        kinds = np.zeros_like(ids)
        for row, (own, second) in enumerate(found):
            ids[row, : len(own)] = own
            if second is not None:
                kinds[row, : len(own)] = second
        return Tokens(*(torch.from_numpy(value).to(inputs.device) for value in (ids, lengths, kinds)))

    def get_extra_state(self) -> Tensor:
        """Return the tokenizer, as bytes that are stored with the weights."""
        content = bytearray(self.description.encode())
        return torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Undo `get_extra_state`."""
        self.description = state.cpu().numpy().tobytes().decode("utf-8", "replace")


class Reads(nn.Module):
    """A network that reads texts: `network` gives the logits of what `tokens` makes of them.

    Evaluating, texts of like lengths are asked about together: what is filled up costs as much as what is there.
    """

    TOGETHER = 32

    def __init__(self, tokens: Tokenise, network: nn.Module) -> None:
        super().__init__()
        self.tokens, self.network = tokens, network

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits `[n, classes]` of texts `[n, bytes]`."""
        tokens: Tokens = self.tokens(inputs)
        if self.training or len(inputs) <= self.TOGETHER:
            logits: Tensor = self.network(tokens)
            return logits
        order = tokens.lengths.argsort(stable=True)
        parts = [self.network(tokens.rows(chosen)) for chosen in order.split(self.TOGETHER)]
        return torch.cat(parts)[order.argsort()]


def of_texts(spec: Spec) -> int:
    """Return the most bytes of a text; ConfigError for inputs that are no texts as bytes."""
    if spec.kind != "text" or spec.vocabulary != BYTES or len(spec.shape) != 1:
        raise must(".model", f"a network for {spec}", Phrase("one for texts"))
    return spec.shape[0]


class _Reader:
    """A tokenizer with what it has made of each text so far: its ids, and of a pair which of its texts each is of."""

    def __init__(self, description: str, longest: int) -> None:
        self.tokenizer = read_tokenizer(description)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(longest)
        self.known: dict[bytes, tuple[np.ndarray, np.ndarray | None]] = {}

    def __call__(self, texts: Sequence[bytes]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        fresh = {text: None for text in texts if text not in self.known}
        made = dict(zip(fresh, map(_as_arrays, self._encoded(list(fresh))), strict=True))
        if len(self.known) + len(made) <= KEPT:
            self.known.update(made)
        return [made[text] if text in made else self.known[text] for text in texts]

    def _encoded(self, texts: list[bytes]) -> list[Any]:
        parts = [texts_of(text) for text in texts]
        found: list[Any] = self.tokenizer.encode_batch(
            [each[0] if len(each) == 1 else tuple(each[:2]) for each in parts]
        )
        return found


def _as_arrays(encoding: Any) -> tuple[np.ndarray, np.ndarray | None]:
    ids = np.array(encoding.ids or [0], np.int32)  # a network is to be shown something
    second = np.array(encoding.type_ids or [0], np.int8)
    return ids, second if second.any() else None


@lru_cache(TOKENIZERS)
def _reader(description: str, longest: int) -> _Reader:
    return _Reader(description, longest)


def read_tokenizer(description: str) -> Any:
    """Return the tokenizer that a JSON describes; ConfigError for what is none."""
    tokenizers = library("tokenizers", "text", "a network for texts")
    try:
        return tokenizers.Tokenizer.from_str(description)
    except Exception as error:  # the library raises plain Exceptions
        raise must(".model", "a network whose tokenizer can be read", Phrase(f"an error: {error}")) from error
