"""Residual networks for 32×32 images (He et al. 2016, section 4.2): 6n + 2 layers in three stages of n blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.errors import must
from kd_cli.models.normalise import Normalise, of_images, widths_of
from kd_cli.ranges import is_whole


class _Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut, projected by a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


def resnet(
    num_classes: int,
    input_shape: Sequence[int],
    depth: int = 20,
    widths: Sequence[int] = (16, 16, 32, 64),
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> nn.Module:
    """Return logits `[N, num_classes]`. `widths` are those of the stem and of the three stages: ResNet-8x4 and -32x4 of
    the CIFAR-100 tables have depth 8 and 32 and widths (32, 64, 128, 256).
    """
    if not is_whole(depth, 8) or (depth - 2) % 6:
        raise must(".model.depth", "6n + 2, that is 8, 14, 20, 32, 44, 56, 110 …", depth)
    if len(widths_of(".model.widths", widths)) != 4:
        raise must(".model.widths", "four widths, the stem's and the three stages'", list(widths))
    channels, _, _ = of_images(input_shape)
    stem, *stages = widths
    layers: list[nn.Module] = [
        Normalise(mean, std, channels),
        nn.Conv2d(channels, stem, 3, 1, 1, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
    ]
    previous = stem
    for stage, filters in enumerate(stages):
        for block in range((depth - 2) // 6):
            layers.append(_Block(previous, filters, 2 if stage and not block else 1))
            previous = filters
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(previous, num_classes)]
    return initialised(nn.Sequential(*layers))


def initialised(model: nn.Module) -> nn.Module:
    """Convolutions by He et al. (2015) with fan-out, as the CIFAR tables of the literature have it."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.fill_(1), module.bias.zero_()
    return model
