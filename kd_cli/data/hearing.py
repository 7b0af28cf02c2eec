"""How a sound becomes what a network is shown: at which rate, for how long, and by which features. Never imports torch.

A `Spec` holds it where samples are features of sounds, so that a stored model says what it was made to hear, and two
models of the same shape and different ears are told apart.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from kd_cli.errors import Phrase, must
from kd_cli.ranges import number, whole_number

FEATURES = ("waveform", "logmel", "mfcc")
MOST_SECONDS, MOST_BANDS, MOST_CONTEXT = 600, 512, 500
RATES = (100, 768_000)  # in hertz: from what a seismograph gives to what recorders have


@dataclass(frozen=True)
class Hearing:
    """`rate` is in hertz, `window` and `step` of the spectrum in seconds.

    A sound is cut or padded to `seconds`; where `context` is a number, a sample is not a whole sound but one frame of
    its spectrum with so many on either side. `bands` are those of the mel filters, of which `mfcc` keeps the first
    `coefficients` of their cosine transform. Features are `centred` by the mean of each channel over the sound, or else
    by one number, so that loudness alone does not count.
    """

    rate: int
    features: str = "logmel"
    seconds: float = 1.0
    context: int | None = None
    bands: int = 40
    coefficients: int = 13
    window: float = 0.025
    step: float = 0.01
    centred: bool = True

    def __post_init__(self) -> None:
        whole_number(".dataset.rate", self.rate, *RATES, what="a whole number of hertz")
        if self.features not in FEATURES:
            raise must(".dataset.features", f"one of {', '.join(FEATURES)}", self.features)
        number(".dataset.seconds", self.seconds, above=0, at_most=MOST_SECONDS)
        whole_number(".dataset.bands", self.bands, 1, MOST_BANDS)
        whole_number(".dataset.coefficients", self.coefficients, 1, self.bands, why=", the number of dataset.bands")
        for key in ("window", "step"):
            number(f".dataset.{key}", getattr(self, key), above=0, at_most=1, what="a number of seconds")
        if not isinstance(self.centred, bool):
            raise must(".dataset.centred", "true or false", self.centred)
        whole_number(".dataset.context", self.context, 0, MOST_CONTEXT, null=True)
        if self.features == "waveform":
            if self.context is not None:
                raise must(".dataset.context", "null with dataset.features=waveform, which has no frames", self.context)
            return
        if self.window_length < 2 or self.step_length < 1:
            short = Phrase(f"{self.window} and {self.step} s at {self.rate} Hz")
            raise must(".dataset.window and dataset.step", "at least two samples and one long", short)
        if self.context is None and self.seconds < self.window:
            raise must(".dataset.seconds", f"at least dataset.window ({self.window})", self.seconds)

    @property
    def length(self) -> int:
        """Samples of a whole sound."""
        return max(1, round(self.seconds * self.rate))

    @property
    def window_length(self) -> int:
        """Samples of a frame's window."""
        return round(self.window * self.rate)

    @property
    def step_length(self) -> int:
        """Samples from a frame to the next."""
        return round(self.step * self.rate)

    @property
    def channels(self) -> int:
        """Numbers of a frame."""
        return self.coefficients if self.features == "mfcc" else self.bands

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a sample: `[samples]` of a waveform, `[channels, frames]` of features."""
        if self.features == "waveform":
            return (self.length,)
        return (self.channels, self.frames(self.length) if self.context is None else 2 * self.context + 1)

    def frames(self, length: int) -> int:
        """Return how many frames a sound of so many samples has, the last of them complete; one of a shorter sound."""
        return 1 + max(0, length - self.window_length) // self.step_length

    def stored(self) -> dict[str, Any]:
        """It as plain values."""
        return asdict(self)

    @classmethod
    def of(cls, stored: object) -> "Hearing":
        """Return the reverse of `stored`. Raises TypeError or ConfigError for what it is not."""
        known = {field.name for field in fields(cls)}
        if not isinstance(stored, Mapping) or not set(stored) <= known:
            raise TypeError(f"its hearing is {str(stored)[:100]}")
        return cls(**stored)

    def __str__(self) -> str:
        """As in `13 of 40 mel bands' cepstrum at 8000 Hz, 25 ms every 10 ms`."""
        if self.features == "waveform":
            return f"the waveform at {self.rate} Hz"
        what = f"{self.coefficients} MFCC of {self.bands}" if self.features == "mfcc" else f"{self.bands} log-mel"
        centred = ", each centred" if self.centred else ""
        return f"{what} bands at {self.rate} Hz, {1000 * self.window:g} ms every {1000 * self.step:g} ms{centred}"
