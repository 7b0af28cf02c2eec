"""A bidirectional LSTM over words: the student that Tang et al. (2019) distilled BERT into."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from kd_cli.data.spec import Spec
from kd_cli.data.texts import Texts
from kd_cli.models.dropout import Dropout
from kd_cli.models.tokens import Reads, Tokens, of_texts
from kd_cli.models.vectors import begin_with
from kd_cli.models.vocabulary import resolved as resolved
from kd_cli.models.vocabulary import tokenise
from kd_cli.ranges import number, whole_number


def bilstm(
    num_classes: int,
    spec: Spec,
    texts: Texts | None = None,
    tokenizer: str = "words",
    vocabulary: int = 10_000,
    vectors: str | None = None,
    width: int = 100,
    hidden: int = 64,
    units: int = 64,
    dropout: float = 0.0,
    longest: int = 256,
) -> nn.Module:
    """Return logits `[N, num_classes]` of texts: both directions' last states through a hidden layer of `units`."""
    of_texts(spec)
    for key, value in (("width", width), ("hidden", hidden), ("units", units)):
        whole_number(f".model.{key}", value, 1)
    number(".model.dropout", dropout, at_least=0, below=1)
    tokens = tokenise(texts, tokenizer, vocabulary, longest)
    network = _Bilstm(vocabulary, width, hidden, units, dropout, num_classes)
    begin_with(network.words.weight, tokens, vectors)
    return Reads(tokens, network)


class _Bilstm(nn.Module):
    def __init__(self, vocabulary: int, width: int, hidden: int, units: int, dropout: float, num_classes: int) -> None:
        super().__init__()
        self.words, self.dropout = nn.Embedding(vocabulary, width), Dropout(dropout)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.classes = nn.Sequential(
            nn.Linear(2 * hidden, units), nn.ReLU(), Dropout(dropout), nn.Linear(units, num_classes)
        )

    def forward(self, tokens: Tokens) -> Tensor:
        vectors = self.dropout(self.words(tokens.ids))
        packed = pack_padded_sequence(vectors, tokens.lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (last, _) = self.lstm(packed)
        logits: Tensor = self.classes(torch.cat([last[0], last[1]], 1))
        return logits
