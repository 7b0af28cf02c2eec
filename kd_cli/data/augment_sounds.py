"""Augmentation of sounds, as pure functions of (sample, seed, view, index) like those of images: of waveforms, and of
features. A mask that goes with them is shifted with them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from kd_cli.data.augment import uniform
from kd_cli.data.inputs import Inputs, each, tensors
from kd_cli.errors import must
from kd_cli.ranges import is_number, number, whole_number

FULL = 32767  # of int16


class ShiftNoise:
    """Waveforms moved in time by up to `shift` of their length in each direction, silence moving in, under white noise
    that is between `snr[0]` and `snr[1]` decibels weaker than the sound; `snr` null: without noise.
    """

    kind = "audio"

    def __init__(self, shift: float = 0.1, snr: tuple[float, float] | None = (10.0, 40.0)) -> None:
        number(".augment.shift", shift, at_least=0, at_most=1)
        if snr is not None and not (len(snr) == 2 and all(map(is_number, snr)) and snr[0] <= snr[1]):
            raise must(".augment.snr", "two numbers of decibels in their order, or null", list(snr))
        self.shift, self.snr = shift, snr

    def __call__(self, stored: Inputs, index: Tensor, seed: int, view: int) -> Inputs:
        """View `view` of these sounds."""
        draw = uniform(index, seed, view, 2)
        length = tensors(stored)[0].shape[-1]
        moved = each(stored, lambda value: moved_by(value, ((2 * draw[0] - 1) * self.shift * length).round().long()))
        if self.snr is None:
            return moved
        if isinstance(moved, Mapping):
            return {**moved, "sound": self._noisy(moved["sound"], index, seed, view, draw[1])}
        return self._noisy(moved, index, seed, view, draw[1])

    def _noisy(self, sound: Tensor, index: Tensor, seed: int, view: int, level: Tensor) -> Tensor:
        assert self.snr is not None
        value = sound.float()
        power = value.square().mean(1, keepdim=True)
        decibels = self.snr[0] + (self.snr[1] - self.snr[0]) * level[:, None]
        noise = uniform(index, seed, view, 2 + sound.shape[1])[2:].T - 0.5  # of the variance 1/12
        noisy = value + noise * (12 * power * 10 ** (-decibels / 10)).sqrt()
        whole = not sound.dtype.is_floating_point
        return noisy.round_().clamp_(-FULL - 1, FULL).to(sound.dtype) if whole else noisy.to(sound.dtype)


class SpecAugment:
    """Features moved in time by up to `shift` frames, `bands` and `frames` of them at most hidden, each in one stretch
    of a length that is drawn (Park et al. 2019): set to 0, to which each channel is centred.
    """

    kind = "features"

    def __init__(self, shift: int = 0, bands: int = 8, frames: int = 10) -> None:
        for key, value in (("shift", shift), ("bands", bands), ("frames", frames)):
            whole_number(f".augment.{key}", value, 0)
        self.shift, self.bands, self.frames = shift, bands, frames

    def __call__(self, stored: Inputs, index: Tensor, seed: int, view: int) -> Inputs:
        """View `view` of these features."""
        draw = uniform(index, seed, view, 5)
        moved = each(stored, lambda value: moved_by(value, (draw[0] * (2 * self.shift + 1)).long() - self.shift))
        if isinstance(moved, Mapping):
            return {**moved, "sound": self._hidden(moved["sound"], draw)}
        return self._hidden(moved, draw)

    def _hidden(self, features: Tensor, draw: Tensor) -> Tensor:
        _, channels, length = features.shape
        seen = stretch(channels, self.bands, draw[1], draw[2])[:, :, None]
        return features * (seen & stretch(length, self.frames, draw[3], draw[4])[:, None])


def stretch(size: int, most: int, length: Tensor, place: Tensor) -> Tensor:
    """False in one stretch of up to `most` of `size` places, drawn for each sample; bool `[n, size]`."""
    hidden = (length * (min(most, size) + 1)).long()
    begin = (place * (size - hidden + 1)).long()
    places = torch.arange(size, device=length.device)
    return (places < begin[:, None]) | (places >= (begin + hidden)[:, None])


def moved_by(value: Tensor, steps: Tensor) -> Tensor:
    """Return samples moved along their last axis by these numbers of places, zeros moving in."""
    length = value.shape[-1]
    source = torch.arange(length, device=value.device) - steps[:, None].to(value.device)
    there = (source >= 0) & (source < length)
    shape = (len(value), *[1] * (value.ndim - 2), length)
    taken = value.gather(-1, source.clamp(0, length - 1).view(shape).expand_as(value))
    return taken * there.view(shape)
