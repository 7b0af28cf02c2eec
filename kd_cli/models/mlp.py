"""The multi-layer perceptron of Hinton, Vinyals and Dean (2015, section 3): ReLU layers, dropout where asked for."""

import math
from collections.abc import Sequence

from torch import nn

from kd_cli.models.dropout import Dropout
from kd_cli.models.normalise import Normalise, widths_of
from kd_cli.ranges import number


def mlp(
    num_classes: int,
    input_shape: Sequence[int],
    widths: Sequence[int] = (800, 800),
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> nn.Module:
    """Return logits `[N, num_classes]` of float inputs `[N, *input_shape]` through hidden layers of these widths."""
    number(".model.dropout", dropout, at_least=0, below=1)
    number(".model.input_dropout", input_dropout, at_least=0, below=1)
    layers: list[nn.Module] = [
        Normalise(mean, std, input_shape[0], len(input_shape)),
        nn.Flatten(),
        Dropout(input_dropout),
    ]
    return nn.Sequential(*layers, *dense(math.prod(input_shape), widths, num_classes, dropout))


def dense(inputs: int, widths: Sequence[int], num_classes: int, dropout: float) -> list[nn.Module]:
    """ReLU layers of these widths, each with its dropout, and the linear layer that gives the logits."""
    layers: list[nn.Module] = []
    for units in widths_of(".model.widths", widths):
        layers += [nn.Linear(inputs, units), nn.ReLU(), Dropout(dropout)]  # also at rate 0: weights keep their names
        inputs = units
    return [*layers, nn.Linear(inputs, num_classes)]
