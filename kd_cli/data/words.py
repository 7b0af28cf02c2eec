"""Augmentation of texts, word by word, before any tokenizer: teacher and student read the same text."""

import numpy as np
from torch import Tensor

from kd_cli.data.augment import uniform
from kd_cli.data.texts import PART, bytes_of, padded
from kd_cli.errors import must
from kd_cli.ranges import number

SPAN = 5  # words: the longest n-gram of Tang et al. (2019)


class WordNoise:
    """Leaves out each word by the chance `drop`, puts `token` in its place by the chance `mask`, and by the chance
    `span` leaves of a text one to five neighbouring words, as Tang et al. (2019, section 3.2) do.

    Words are what blanks part; one is always left. Of a pair each text keeps one.
    """

    kind = "text"

    def __init__(self, drop: float = 0.0, mask: float = 0.0, span: float = 0.0, token: str = "[MASK]") -> None:
        for key, value in (("drop", drop), ("mask", mask), ("span", span)):
            number(f".augment.{key}", value, at_least=0, at_most=1, what="a share")
        if not isinstance(token, str) or not token or " " in token:
            raise must(".augment.token", "a word", token)
        self.drop, self.mask, self.span, self.token = drop, mask, span, token.encode()

    def __call__(self, stored: Tensor, index: Tensor, seed: int, view: int) -> Tensor:
        """The texts of this view as bytes, of the shape they came in."""
        longest = stored.shape[1]
        texts = [[part.split() for part in text.split(PART)] for text in bytes_of(stored)]
        sizes = [sum(map(len, parts)) for parts in texts]
        draws = uniform(index.cpu(), seed, view, 3 + 2 * max(sizes, default=0)).numpy()
        made = []
        for row, (parts, size) in enumerate(zip(texts, sizes, strict=True)):
            own, kept, start = draws[:, row], [], 3
            for words in parts:
                chance = own[start : start + 2 * len(words)].reshape(2, -1)
                kept.append(b" ".join(self._words(words, chance, own[:3])))
                start += 2 * len(words)
            made.append(PART.join(kept)[:longest] if size else PART.join(b" ".join(words) for words in parts))
        return padded(made, longest).to(stored.device)

    def _words(self, words: list[bytes], chance: np.ndarray, span: np.ndarray) -> list[bytes]:
        if not words:
            return words
        first, last = 0, len(words)
        if span[0] < self.span:
            length = min(1 + int(span[1] * SPAN), len(words))
            first = int(span[2] * (len(words) - length + 1))
            last = first + length
        masked = [self.token if chance[1, k] < self.mask else words[k] for k in range(first, last)]
        kept = [word for word, k in zip(masked, range(first, last), strict=True) if chance[0, k] >= self.drop]
        return kept or masked[:1]
