"""Convolutional networks for sounds: along time alone, or over time and frequency. Shown waveforms, they compute the
log-mel spectrum themselves; where there is a mask, they average over what is sound.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.data.hearing import Hearing
from kd_cli.data.inputs import Inputs
from kd_cli.data.spec import Spec
from kd_cli.data.spectrum import spectrum
from kd_cli.errors import Phrase, must
from kd_cli.models.dropout import Dropout
from kd_cli.models.normalise import widths_of
from kd_cli.ranges import number, whole_number


class Ear(nn.Module):
    """Features `[n, channels, frames]` and a mask `[n, 1, frames]`, or None, of what a `spec` shows: features as they
    are, or a waveform's log-mel spectrum less its mean.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.hearing: Hearing | None = None
        if spec.kind == "audio" and len(spec.shape) == 1 and spec.sample_rate:
            self.hearing = Hearing(spec.sample_rate, "logmel", max(0.025, spec.shape[0] / spec.sample_rate))
            self.channels = self.hearing.channels
        elif spec.kind == "features" and len(spec.shape) == 2:
            self.channels = spec.shape[0]
        else:
            raise must(".model", f"a network for {spec}", Phrase("one for sounds: waveforms, or [channels, frames]"))

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Features and mask."""
        heard, mask = (inputs, None) if isinstance(inputs, Tensor) else (inputs["sound"], inputs["mask"])
        if self.hearing is None:
            return heard, None if mask is None else mask[:, :1]
        heard = spectrum(heard, self.hearing)
        if mask is not None:
            mask = F.adaptive_max_pool1d(mask[:, None], heard.shape[2])
        return heard - _mean(heard, mask).mean(1)[:, None, None], mask


def _mean(features: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over time of what is sound, `[n, channels]`."""
    if mask is None:
        return features.mean(2)
    return (features * mask).sum(2) / mask.sum(2).clamp(min=1)


class Convolutional(nn.Module):
    """Blocks of convolution, batch norm, ReLU and max-pooling by 2; the mean over time; a linear layer."""

    def __init__(self, ear: Ear, blocks: nn.ModuleList, rows: int, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.ear, self.blocks, self.rows = ear, blocks, rows
        self.dropout, self.head = Dropout(dropout), nn.Linear(features, classes)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits `[n, classes]`."""
        x, mask = self.ear(inputs)
        x = x[:, None] if self.rows else x
        for block in self.blocks:
            x = block(x)
            if mask is not None:
                mask = F.max_pool1d(mask, 2, ceil_mode=True)
        logits: Tensor = self.head(self.dropout(_mean(x.flatten(1, 2) if self.rows else x, mask)))
        return logits


def cnn1d(
    num_classes: int, spec: Spec, channels: Sequence[int] = (64, 64, 128), kernel: int = 5, dropout: float = 0.0
) -> nn.Module:
    """Convolutions along time, the bands being the channels of the first (a time-delay network, Waibel et al. 1989)."""
    widths = _checked(channels, kernel, dropout)
    ear = Ear(spec)
    layers, previous = nn.ModuleList(), ear.channels
    for width in widths:
        convolution = nn.Conv1d(previous, width, kernel, padding=kernel // 2, bias=False)
        layers.append(nn.Sequential(convolution, nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2, ceil_mode=True)))
        previous = width
    return Convolutional(ear, layers, 0, previous, num_classes, dropout)


def cnn2d(
    num_classes: int, spec: Spec, channels: Sequence[int] = (16, 32, 64), kernel: int = 3, dropout: float = 0.0
) -> nn.Module:
    """Convolutions over frequency and time (Sainath and Parada 2015)."""
    widths = _checked(channels, kernel, dropout)
    ear = Ear(spec)
    layers, previous, rows = nn.ModuleList(), 1, ear.channels
    for width in widths:
        convolution = nn.Conv2d(previous, width, kernel, padding=kernel // 2, bias=False)
        layers.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)))
        previous, rows = width, (rows + 1) // 2
    return Convolutional(ear, layers, rows, previous * rows, num_classes, dropout)


def _checked(channels: Sequence[int], kernel: int, dropout: float) -> list[int]:
    number(".model.dropout", dropout, at_least=0, below=1)
    whole_number(".model.kernel", kernel, 1, 99)
    if kernel % 2 == 0:
        raise must(".model.kernel", "odd", kernel)
    widths = widths_of(".model.channels", channels)
    if not widths:
        raise must(".model.channels", "a list of at least one whole number ≥ 1", list(channels))
    return widths
