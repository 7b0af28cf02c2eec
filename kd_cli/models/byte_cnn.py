"""A small convolutional network for bytes: an embedding, blocks of bytes, what is found in each part of them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.data.spec import Spec
from kd_cli.errors import Phrase, must
from kd_cli.ranges import whole_number


class _Bytes(nn.Module):
    """Logits of token ids `[N, length]`."""

    def __init__(self, num_classes: int, vocabulary: int, embedding: int, block: int, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.blocks = nn.Conv1d(embedding, width, block, block)
        self.norm = nn.LayerNorm(width)
        self.around = nn.Conv1d(width, width, 5, padding=2)
        self.head = nn.Linear(width * parts, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        x = F.gelu(self.blocks(self.embedding(ids).transpose(1, 2)))
        x = F.gelu(self.around(self.norm(x.transpose(1, 2)).transpose(1, 2)))
        found = [part.amax(2) for part in x.chunk(self.parts, 2)]
        logits: Tensor = self.head(torch.cat(found, 1))
        return logits


def byte_cnn(
    num_classes: int, spec: Spec, embedding: int = 16, block: int = 8, width: int = 64, parts: int = 2
) -> nn.Module:
    """Return logits `[N, num_classes]` of texts whose tokens are bytes: `block` of them are one position of a
    convolution of so much `width`, whose largest values are taken in each of `parts`, as a file's beginning and end are
    two.
    """
    sizes: dict[str, Any] = {"embedding": embedding, "block": block, "width": width, "parts": parts}
    for key, value in sizes.items():
        whole_number(f".model.{key}", value, 1)
    if spec.kind != "text" or spec.parts or spec.vocabulary is None:
        raise must(".model", f"a network for {spec}", Phrase("one for texts of bytes"))
    if spec.shape[0] < block * parts:
        raise must(".model.block", f"at most {spec.shape[0] // parts}, that there is one in each part", block)
    return _Bytes(num_classes, spec.vocabulary, embedding, block, width, parts)
