"""How a sound file becomes numbers, by rules that are the same for every file; what they do not cover is refused.

Channels are averaged, another rate is resampled by a polyphase filter, and a file that holds no sound is named.
"""

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd_cli.data.decoding import read_image
from kd_cli.data.hearing import RATES, Hearing
from kd_cli.data.shades import Unusable
from kd_cli.data.spectrum import spectrum
from kd_cli.errors import first_line
from kd_cli.extras import library

VERSION = 1  # raised whenever a file gives other numbers than before
EXTENSIONS = frozenset((".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"))
LONGEST = 1 << 27  # samples of a file: 46 minutes at 48 kHz
SILENT = 1 / (1 << 15)  # what deviates less from its mean is not one step of 16 bits
ZERO_RATE = b"\0\0\0\0"

read_sound = read_image  # a file's bytes; Unusable for what is no plain file, or too large


def soundfile() -> Any:
    """Return the library that decodes; ConfigError with its extra where it is not installed."""
    return library("soundfile", "audio", "A sound")


def decode_sound(content: bytes, rate: int) -> Tensor:
    """Return a sound file's samples at `rate` hertz, float32 `[samples]`, its channels averaged; Unusable where no rule
    makes them, or none of them is heard.
    """
    library = soundfile()
    try:
        with library.SoundFile(BytesIO(content)) as file:
            own, length = int(file.samplerate), int(file.frames)
            if not RATES[0] <= own <= RATES[1]:
                raise Unusable(f"a sample rate of {own:,} Hz")
            if length > LONGEST:
                raise Unusable(f"{length:,} samples, more than the {LONGEST:,} that are read: cut it into parts")
            values = file.read(dtype="float32", always_2d=True).mean(1)
    except Unusable:
        raise
    except Exception as error:  # damaged headers make the library raise whatever the bytes lead it to
        raise Unusable(_why(content, error)) from None
    if len(values) == 0:
        raise Unusable("no samples")
    if not np.isfinite(values).all():
        raise Unusable("samples that are no numbers")
    if float(values.max() - values.min()) < SILENT:
        raise Unusable("silent")
    return torch.from_numpy(resampled(values, own, rate))


def _why(content: bytes, error: Exception) -> str:
    if not content:
        return "empty"
    place = content.find(b"fmt ", 0, 1 << 12)
    if content[:4] == b"RIFF" and place > 0 and content[place + 12 : place + 16] == ZERO_RATE:
        return "a sample rate of 0 Hz"
    said = first_line(error).rpartition(">: ")[2].rstrip(".")
    return f"no sound of a kind that is read, or damaged ({said})"


def resampled(values: np.ndarray, own: int, rate: int) -> np.ndarray:
    """Return float32 samples at `rate` of those at `own` hertz."""
    if own == rate:
        return values
    from scipy.signal import resample_poly  # half a second

    shared = math.gcd(own, rate)
    made: np.ndarray = resample_poly(values, rate // shared, own // shared).astype(np.float32)
    return made


def read_wave(path: str | Path, rate: int) -> tuple[bytes, Tensor]:
    """Return a file's bytes and its samples; Unusable where there are none."""
    content = read_sound(path)
    return content, decode_sound(content, rate)


def whole_sound(wave: Tensor, hearing: Hearing) -> tuple[Tensor, int]:
    """One sound as a network hears it, of `hearing.shape`, and how much of its last axis is sound: cut at both ends to
    the length that is wanted, or padded behind. A waveform is int16, padded with silence; features are float16 and
    centred, padded with 0.
    """
    if (more := len(wave) - hearing.length) > 0:
        wave = wave[more // 2 : more // 2 + hearing.length]
    if hearing.features == "waveform":
        heard = (wave * (1 << 15)).round().clamp(-(1 << 15), (1 << 15) - 1).to(torch.int16)
    else:
        heard = centred(wave, hearing)
    made = torch.zeros(hearing.shape, dtype=heard.dtype)
    made[..., : heard.shape[-1]] = heard
    return made, heard.shape[-1]


def centred(wave: Tensor, hearing: Hearing) -> Tensor:
    """Return a sound's features `[channels, frames]`, float16, each channel less its mean over the sound, which is what
    a microphone and a room add to all of it; or less what all have in common, which is how loud it is.
    """
    found = spectrum(wave[None], hearing)[0]
    if hearing.centred:
        found -= found.mean(1, keepdim=True)
    elif hearing.features == "mfcc":
        found[0] -= found[0].mean()
    else:
        found -= found.mean()
    return found.half()
