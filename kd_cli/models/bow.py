"""A bag of words: the mean of the words' vectors, and a linear layer (Joulin et al. 2017, fastText)."""

import torch
from torch import Tensor, nn

from kd_cli.data.spec import Spec
from kd_cli.data.texts import Texts
from kd_cli.models.dropout import Dropout
from kd_cli.models.tokens import Reads, Tokens, of_texts
from kd_cli.models.vectors import begin_with
from kd_cli.models.vocabulary import resolved as resolved
from kd_cli.models.vocabulary import tokenise
from kd_cli.ranges import number, whole_number

FACTOR = 1_000_003  # a prime, of the hash of two tokens


def bow(
    num_classes: int,
    spec: Spec,
    texts: Texts | None = None,
    tokenizer: str = "words",
    vocabulary: int = 10_000,
    vectors: str | None = None,
    bigrams: int = 0,
    width: int = 64,
    dropout: float = 0.0,
    longest: int = 256,
) -> nn.Module:
    """Return logits `[N, num_classes]` of texts; `bigrams` rows are shared by all pairs of neighbouring tokens."""
    of_texts(spec)
    whole_number(".model.width", width, 1)
    whole_number(".model.bigrams", bigrams, 0)
    number(".model.dropout", dropout, at_least=0, below=1)
    tokens = tokenise(texts, tokenizer, vocabulary, longest)
    network = _Bag(vocabulary, bigrams, width, dropout, num_classes)
    begin_with(network.words.weight[:vocabulary], tokens, vectors)
    return Reads(tokens, network)


class _Bag(nn.Module):
    def __init__(self, vocabulary: int, bigrams: int, width: int, dropout: float, num_classes: int) -> None:
        super().__init__()
        self.vocabulary, self.bigrams = vocabulary, bigrams
        self.words = nn.EmbeddingBag(vocabulary + bigrams, width, mode="mean")
        nn.init.normal_(self.words.weight, std=0.1)
        self.dropout = Dropout(dropout)
        self.classes = nn.Linear(width, num_classes)

    def forward(self, tokens: Tokens) -> Tensor:
        ids, mask, sizes = tokens.ids, tokens.mask, tokens.lengths
        if self.bigrams:
            pairs = (ids[:, :-1] * FACTOR + ids[:, 1:]) % self.bigrams + self.vocabulary
            ids, mask, sizes = torch.cat([ids, pairs], 1), torch.cat([mask, mask[:, 1:]], 1), 2 * sizes - 1
        mean = self.words(ids[mask], sizes.cumsum(0) - sizes)
        logits: Tensor = self.classes(self.dropout(mean))
        return logits
