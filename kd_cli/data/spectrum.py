"""Mel spectra and their cepstra, as differentiable functions of waveforms: computed once for a data set, or within a
network that is shown waveforms.

Frames are Hann-windowed power spectra; the mel scale is that of O'Shaughnessy (1987), `2595 log10(1 + f / 700)`, the
filters are triangles between 20 Hz and half the rate; logarithms are to base 10 (Davis and Mermelstein 1980 for MFCC).
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from kd_cli.data.hearing import Hearing

FLOOR = 1e-8  # of a band's power, full scale being 1: below it lies the noise of 16 bits
LOWEST = 20.0  # hertz


def spectrum(waves: Tensor, hearing: Hearing) -> Tensor:
    """Log-mel bands or MFCC `[n, channels, frames]` of float waveforms `[n, samples]` in [−1, 1]; one shorter than a
    window is padded with silence.
    """
    if (short := hearing.window_length - waves.shape[1]) > 0:
        waves = torch.nn.functional.pad(waves, (0, short))
    frames = waves.unfold(1, hearing.window_length, hearing.step_length)
    window, filters, cosines = _constants(hearing, waves.device)
    power = torch.fft.rfft(frames * window, n=_fft_length(hearing)).abs().square()
    bands = (power @ filters).clamp(min=FLOOR).log10()
    shown: Tensor = bands if cosines is None else bands @ cosines
    return shown.transpose(1, 2)


def _fft_length(hearing: Hearing) -> int:
    return 1 << (hearing.window_length - 1).bit_length()


@lru_cache(maxsize=8)
def _constants(hearing: Hearing, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """Window `[samples]`, mel filters `[frequencies, bands]` and, for MFCC, cosines `[bands, coefficients]`."""
    window = torch.hann_window(hearing.window_length, dtype=torch.float64)
    edges = _hertz(torch.linspace(_mel(LOWEST), _mel(hearing.rate / 2), hearing.bands + 2, dtype=torch.float64))
    places = torch.arange(_fft_length(hearing) // 2 + 1) * (hearing.rate / _fft_length(hearing))
    rising = (places[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places[:, None]) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0)
    filters /= filters.sum(0).clamp(min=1e-9)  # a narrow band may lie between two frequencies: see below
    lost = filters.sum(0) == 0
    filters[(places[:, None] - edges[1:-1]).abs().argmin(0)[lost], lost.nonzero()[:, 0]] = 1.0
    filters *= 4 / window.sum().square()  # a sine of full scale has the power 1
    cosines = None
    if hearing.features == "mfcc":
        band, k = torch.arange(hearing.bands)[:, None] + 0.5, torch.arange(hearing.coefficients)
        cosines = (math.pi / hearing.bands * band * k).cos() * (2 / hearing.bands) ** 0.5
        cosines[:, 0] *= 0.5**0.5
    window, filters = window.to(device, torch.float32), filters.to(device, torch.float32)
    return window, filters, None if cosines is None else cosines.to(device, torch.float32)


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)
