"""A small convolutional network: 3×3 convolutions, each followed by 2×2 max-pooling and ReLU, then hidden layers."""

from collections.abc import Sequence

from torch import nn

from kd_cli.errors import must
from kd_cli.models.mlp import dense
from kd_cli.models.normalise import Normalise, of_images, widths_of
from kd_cli.ranges import number


def cnn(
    num_classes: int,
    input_shape: Sequence[int],
    channels: Sequence[int] = (16, 32),
    widths: Sequence[int] = (64,),
    dropout: float = 0.0,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> nn.Module:
    """Return logits `[N, num_classes]` of images `[N, *input_shape]`."""
    previous, height, width = of_images(input_shape)
    number(".model.dropout", dropout, at_least=0, below=1)
    layers: list[nn.Module] = [Normalise(mean, std, previous)]
    for filters in widths_of(".model.channels", channels):
        layers += [nn.Conv2d(previous, filters, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]  # the order costs a quarter
        previous, height, width = filters, height // 2, width // 2
    if height < 1 or width < 1:
        raise must(
            ".model.channels", f"at most as long as {input_shape[1]}×{input_shape[2]} can be halved", list(channels)
        )
    layers.append(nn.Flatten())
    return nn.Sequential(*layers, *dense(previous * height * width, widths, num_classes, dropout))
