"""A small transformer encoder, trained from scratch: the mean of its last layer's tokens gives the logits."""

import torch
from torch import Tensor, nn

from kd_cli.data.spec import Spec
from kd_cli.data.texts import Texts
from kd_cli.errors import must
from kd_cli.models.dropout import Dropout
from kd_cli.models.tokens import Reads, Tokens, of_texts
from kd_cli.models.vectors import begin_with
from kd_cli.models.vocabulary import resolved as resolved
from kd_cli.models.vocabulary import tokenise
from kd_cli.ranges import number, whole_number


def transformer(
    num_classes: int,
    spec: Spec,
    texts: Texts | None = None,
    tokenizer: str = "pieces",
    vocabulary: int = 8_000,
    vectors: str | None = None,
    width: int = 128,
    layers: int = 3,
    heads: int = 4,
    dropout: float = 0.1,
    longest: int = 128,
) -> nn.Module:
    """Return logits `[N, num_classes]` of texts, of which the first `longest` tokens are read."""
    of_texts(spec)
    for key, value in (("width", width), ("layers", layers), ("heads", heads)):
        whole_number(f".model.{key}", value, 1)
    if width % heads:
        raise must(".model.width", f"a multiple of {heads}, the heads", width)
    number(".model.dropout", dropout, at_least=0, below=1)
    tokens = tokenise(texts, tokenizer, vocabulary, longest)
    network = _Transformer(vocabulary, width, longest, layers, heads, dropout, num_classes)
    begin_with(network.words.weight, tokens, vectors)
    return Reads(tokens, network)


class _Transformer(nn.Module):
    def __init__(
        self, vocabulary: int, width: int, longest: int, layers: int, heads: int, dropout: float, num_classes: int
    ) -> None:
        super().__init__()
        self.words, self.places, self.dropout = (
            nn.Embedding(vocabulary, width),
            nn.Embedding(longest, width),
            Dropout(dropout),
        )
        for vectors in (self.words, self.places):
            nn.init.normal_(vectors.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.classes = nn.Linear(width, num_classes)

    def forward(self, tokens: Tokens) -> Tensor:
        mask = tokens.mask
        places = torch.arange(mask.shape[1], device=mask.device)
        seen = self.layers(self.dropout(self.words(tokens.ids) + self.places(places)), src_key_padding_mask=~mask)
        mean = (seen * mask[:, :, None]).sum(1) / tokens.lengths[:, None]
        logits: Tensor = self.classes(mean)
        return logits
