"""Sound files for the tests: tones in noise, a class each, said by several speakers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

TONES = {"low": 300, "mid": 900, "high": 2200}  # hertz
SPEAKERS = ("ann", "bob", "cy", "di")


def tone(hertz: float, rate: int = 8000, seconds: float = 0.3, seed: int = 0, noise: float = 0.05) -> np.ndarray:
    draw = np.random.default_rng(seed)
    time = np.arange(round(rate * seconds)) / rate
    wave = 0.3 * np.sin(2 * np.pi * hertz * (1 + 0.02 * draw.standard_normal()) * time + draw.random())
    return (wave + noise * draw.standard_normal(len(time))).astype(np.float32)


def write(path: Path, wave: np.ndarray, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate)
    return path


def folders(root: Path, each: int = 4, ending: str = "wav", speakers: Sequence[str] = SPEAKERS) -> Path:
    """`<root>/<class>/<class>_<speaker>_<number>.wav`, of different lengths."""
    for label, hertz in TONES.items():
        for k, speaker in enumerate(speakers):
            for number in range(each):
                seed = 1000 * k + 10 * number + hertz
                wave = tone(hertz * (1 + 0.05 * k), seconds=0.2 + 0.03 * number, seed=seed)
                write(root / label / f"{label}_{speaker}_{number}.{ending}", wave)
    return root


def digits(root: Path, indices: Sequence[int] = (0, 7, 8)) -> Path:
    """`<root>/recordings/<digit>_<speaker>_<index>.wav`."""
    for digit in range(10):
        for k, speaker in enumerate(SPEAKERS):
            for index in indices:
                wave = tone(200 + 300 * digit + 20 * k, seconds=0.2, seed=100 * digit + 10 * k + index)
                write(root / "recordings" / f"{digit}_{speaker}_{index}.wav", wave)
    return root
