"""Wide residual networks (Zagoruyko and Komodakis 2016): pre-activation blocks, 6n + 4 layers, width factor k."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.errors import must
from kd_cli.models.dropout import Dropout
from kd_cli.models.normalise import Normalise, of_images
from kd_cli.models.resnet import initialised
from kd_cli.ranges import is_whole, number, whole_number


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.dropout = Dropout(dropout)
        self.project = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        inner: Tensor = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(active)))))
        return inner + (x if self.project is None else self.project(active))


def wrn(
    num_classes: int,
    input_shape: Sequence[int],
    depth: int = 16,
    width: int = 2,
    dropout: float = 0.0,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> nn.Module:
    """Return logits `[N, num_classes]` of WRN-`depth`-`width`."""
    if not is_whole(depth, 10) or (depth - 4) % 6:
        raise must(".model.depth", "6n + 4, that is 10, 16, 22, 28, 40 …", depth)
    whole_number(".model.width", width, 1)
    number(".model.dropout", dropout, at_least=0, below=1)
    channels, _, _ = of_images(input_shape)
    layers: list[nn.Module] = [
        Normalise(mean, std, channels),
        nn.Conv2d(channels, 16, 3, 1, 1, bias=False),
    ]
    previous = 16
    for stage in range(3):
        filters = 16 * width * 2**stage
        for block in range((depth - 4) // 6):
            layers.append(_Block(previous, filters, 2 if stage and not block else 1, dropout))
            previous = filters
    head = [nn.BatchNorm2d(previous), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialised(nn.Sequential(*layers, *head, nn.Linear(previous, num_classes)))
