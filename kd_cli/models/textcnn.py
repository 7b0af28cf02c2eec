"""Convolutions over words, each followed by its maximum over the text (Kim 2014)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd_cli.data.spec import Spec
from kd_cli.data.texts import Texts
from kd_cli.models.dropout import Dropout
from kd_cli.models.normalise import widths_of
from kd_cli.models.tokens import Reads, Tokens, of_texts
from kd_cli.models.vectors import begin_with
from kd_cli.models.vocabulary import resolved as resolved
from kd_cli.models.vocabulary import tokenise
from kd_cli.ranges import number, whole_number


def textcnn(
    num_classes: int,
    spec: Spec,
    texts: Texts | None = None,
    tokenizer: str = "words",
    vocabulary: int = 10_000,
    vectors: str | None = None,
    width: int = 100,
    filters: int = 100,
    sizes: Sequence[int] = (3, 4, 5),
    dropout: float = 0.5,
    longest: int = 256,
) -> nn.Module:
    """Return logits `[N, num_classes]` of texts: `filters` of each of these `sizes` in words."""
    of_texts(spec)
    for key, value in (("width", width), ("filters", filters)):
        whole_number(f".model.{key}", value, 1)
    number(".model.dropout", dropout, at_least=0, below=1)
    tokens = tokenise(texts, tokenizer, vocabulary, longest)
    network = _TextCnn(vocabulary, width, filters, widths_of(".model.sizes", sizes), dropout, num_classes)
    begin_with(network.words.weight, tokens, vectors)
    return Reads(tokens, network)


class _TextCnn(nn.Module):
    def __init__(
        self, vocabulary: int, width: int, filters: int, sizes: list[int], dropout: float, num_classes: int
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, k, padding=k // 2) for k in sizes)
        self.dropout = Dropout(dropout)
        self.classes = nn.Linear(filters * len(sizes), num_classes)

    def forward(self, tokens: Tokens) -> Tensor:
        nothing = ~tokens.mask[:, None]
        vectors = self.words(tokens.ids).transpose(1, 2).masked_fill(nothing, 0)
        found = []
        for convolution in self.convolutions:
            windows = convolution(vectors)[:, :, : nothing.shape[2]]  # one more where the size is even
            found.append(windows.masked_fill(nothing, -torch.inf).amax(2).relu())
        logits: Tensor = self.classes(self.dropout(torch.cat(found, 1)))
        return logits
