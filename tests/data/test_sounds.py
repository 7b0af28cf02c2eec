"""Sound files become the numbers that they hold, at the rate that is asked for; what holds none is refused."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.fft import dct
from sound_files import tone

from kd_cli.data.hearing import Hearing
from kd_cli.data.shades import Unusable
from kd_cli.data.sounds import centred, decode_sound, whole_sound
from kd_cli.data.spectrum import spectrum


def encoded(wave: np.ndarray, rate: int = 8000, **how: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, **{"format": "WAV", **how})
    return file.getvalue()


@pytest.mark.parametrize(
    ("how", "close"),
    [
        ({"format": "WAV"}, 0.9999),
        ({"format": "WAV", "subtype": "FLOAT"}, 0.9999),
        ({"format": "FLAC"}, 0.9999),
        ({"format": "OGG", "subtype": "VORBIS"}, 0.95),
        ({"format": "MP3"}, 0.9),
    ],
)
def test_every_format_holds_the_same_sound(how: dict[str, str], close: float) -> None:
    wave = tone(440, seconds=1.0, noise=0.0)
    found = decode_sound(encoded(wave, **how), 8000).numpy()
    assert len(found) == len(wave)
    lags = [np.corrcoef(wave[2000:5000], found[2000 + lag : 5000 + lag])[0, 1] for lag in range(-9, 10)]
    assert max(lags) > close  # a lossy format may come a few samples late


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_another_rate_keeps_the_pitch_and_the_length(rate: int) -> None:
    found = decode_sound(encoded(tone(1000, rate, 0.5, noise=0.0), rate), 16000)
    assert abs(len(found) - 8000) <= 1
    heard = np.abs(np.fft.rfft(found.numpy() * np.hanning(len(found)))).argmax() * 16000 / len(found)
    assert heard == pytest.approx(1000, rel=0.08)
    assert float(found.std()) == pytest.approx(0.3 / 2**0.5, rel=0.02)


def test_channels_are_averaged() -> None:
    left, right = tone(300, seed=1), tone(800, seed=2)
    found = decode_sound(encoded(np.stack([left, right], 1), subtype="FLOAT"), 8000).numpy()
    assert found == pytest.approx((left + right) / 2, abs=1e-6)


def without_rate() -> bytes:
    content = bytearray(encoded(tone(300)))
    content[24:28] = struct.pack("<I", 0)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"these are words" * 50, r"no sound of a kind that is read, or damaged \(Format not recognised\)"),
        (without_rate(), "a sample rate of 0 Hz"),
        (encoded(np.zeros(4000, np.float32)), "silent"),
        (encoded(np.full(4000, 0.5, np.float32)), "silent"),
        (encoded(np.zeros(0, np.float32)), "no samples"),
        (encoded(np.array([0.1, np.nan, 0.2], np.float32), subtype="FLOAT"), "samples that are no numbers"),
        (encoded(tone(300))[:30], "no sound of a kind that is read"),
        (encoded(tone(300), 8000).replace(struct.pack("<I", 8000), struct.pack("<I", 50), 1), "a sample rate of 50 Hz"),
    ],
)
def test_what_holds_no_sound_is_refused_by_its_reason(content: bytes, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        decode_sound(content, 8000)


def by_hand(wave: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """Log-mel bands of each frame, written out."""
    size = round(0.025 * rate)
    n = 1 << (size - 1).bit_length()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    mel = np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
    edges, places = 700 * (10 ** (mel / 2595) - 1), np.arange(n // 2 + 1) * rate / n
    found = []
    for start in range(0, len(wave) - size + 1, round(0.01 * rate)):
        power = np.abs(np.fft.rfft(wave[start : start + size] * window, n)) ** 2 * 4 / window.sum() ** 2
        row = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            weight = np.clip(np.minimum((places - low) / (middle - low), (high - places) / (high - middle)), 0, None)
            if weight.sum() == 0:
                weight[np.abs(places - middle).argmin()] = 1
            row.append(np.log10(max((power * weight).sum() / weight.sum(), 1e-8)))
        found.append(row)
    return np.array(found).T


@pytest.mark.parametrize(("rate", "bands"), [(8000, 40), (16000, 80), (8000, 128)])
def test_the_spectrum_is_the_one_that_its_definition_gives(rate: int, bands: int) -> None:
    wave = tone(700, rate, 0.2)
    found = spectrum(torch.from_numpy(wave)[None], Hearing(rate, bands=bands))[0].numpy()
    assert found == pytest.approx(by_hand(wave, rate, bands), abs=1e-3)
    cepstrum = spectrum(torch.from_numpy(wave)[None], Hearing(rate, "mfcc", bands=bands))[0].numpy()
    wanted = dct(by_hand(wave, rate, bands), axis=0, norm="ortho")[:13]
    assert cepstrum == pytest.approx(wanted, abs=1e-2)


def test_a_sound_is_cut_in_its_middle_or_padded_behind() -> None:
    wave = torch.from_numpy(tone(300, seconds=1.0))
    hearing = Hearing(8000, "waveform", 0.25)
    cut, length = whole_sound(wave, hearing)
    assert length == len(cut) == 2000
    assert torch.equal(cut, (wave[3000:5000] * 32768).round().to(torch.int16))
    padded, length = whole_sound(wave[:500], hearing)
    assert (length, int(padded[500:].abs().max())) == (500, 0)
    features, length = whole_sound(wave[:1000], Hearing(8000, seconds=0.25))
    assert (features.shape, length) == ((40, 23), 11)
    assert torch.equal(features[:, :11], centred(wave[:1000], Hearing(8000)))
    assert float(features[:, 11:].abs().max()) == 0


def test_features_are_centred_so_that_loudness_does_not_count() -> None:
    wave = torch.from_numpy(tone(300))
    for features in ("logmel", "mfcc"):
        hearing = Hearing(8000, features)
        assert float(centred(wave, hearing).float().mean(1).abs().max()) < 0.05
        shape = Hearing(8000, features, centred=False)
        loud, quiet = (centred(each, shape).float() for each in (wave, wave / 4))
        assert torch.allclose(loud, quiet, atol=0.1)
        assert float(loud.mean(1).abs().max()) > 1  # a steady tone is still there


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rate": 0}, "dataset.rate must be a whole number of hertz from 100 to 768000, got 0."),
        ({"features": "mels"}, "dataset.features must be one of waveform, logmel, mfcc, got 'mels'."),
        ({"coefficients": 41}, "dataset.coefficients must be a whole number from 1 to 40, the number of dataset.bands"),
        ({"features": "waveform", "context": 3}, "dataset.context must be null with dataset.features=waveform"),
        ({"seconds": 0.02}, r"dataset.seconds must be at least dataset.window \(0.025\), got 0.02."),
        ({"step": 0.00001}, "dataset.window and dataset.step must be at least two samples and one long"),
    ],
)
def test_what_nothing_can_be_heard_by_is_refused(keys: dict[str, object], message: str, tmp_path: Path) -> None:
    from kd_cli.errors import ConfigError

    with pytest.raises(ConfigError, match=message):
        Hearing(**{"rate": 8000, **keys})  # type: ignore[arg-type]
