"""What a sample is: the one place that knows images, texts, sounds and features apart."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from kd_cli.data.hearing import Hearing
from kd_cli.data.inputs import Inputs, each, tensors
from kd_cli.errors import DataError, Phrase
from kd_cli.ranges import is_whole

KINDS = ("image", "text", "audio", "features")
STORED_AS = {  # how a sample of each kind is stored
    "image": "uint8",
    "text": "whole numbers",
    "audio": "floating-point numbers or int16",
    "features": "numbers",
}
PCM = 1 << 15  # full scale of a sound's int16 samples
KEY = ".dataset"  # where samples come from: who knows which of a run's data sets it is completes it
MOST_PARTS = 16  # of an input: a text's have three or four
BYTES = 256  # token ids of a text that is stored as its UTF-8 bytes: a network has a tokenizer of its own
SAID_NOTHING = b"Somebody said something about this or that, and nobody knew what it was all about."


@dataclass(frozen=True)
class Spec:
    """The `kind` of a data set's samples and the `shape` of one as it is stored: `[channels, height, width]` of an
    image, `[length]` of a text, `[channels, length]` or `[length]` of a sound, any of features.

    A text's `vocabulary` is how many token ids there are, `BYTES` where it is stored as its UTF-8 bytes; a sound's
    `sample_rate` is in hertz. Where an input is several tensors, `parts` names them, all of one shape, as
    `("ids", "mask")`; one whose name ends in `mask` holds 1 where something is. What features of sounds were
    made by is their `hearing`.
    """

    kind: str
    shape: tuple[int, ...]
    vocabulary: int | None = None
    sample_rate: int | None = None
    parts: tuple[str, ...] = ()
    hearing: Hearing | None = None

    def __post_init__(self) -> None:
        for name in ("shape", "parts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.kind not in KINDS:
            raise _must("kind", f"one of {', '.join(KINDS)}", self.kind)
        if not self.shape or not all(is_whole(size, 1) for size in self.shape):
            raise _must("shape", "a list of whole numbers ≥ 1", list(self.shape))
        if self.kind == "image" and (len(self.shape) != 3 or self.parts):
            raise _must("shape", "[channels, height, width] of one image", list(self.shape))
        for name, owner in (("vocabulary", "text"), ("sample_rate", "audio")):
            value = getattr(self, name)
            if not (is_whole(value, 1) if self.kind == owner else value is None):
                raise _must(name, f"a whole number ≥ 1 for {owner}, and for nothing else", value)
        named = all(isinstance(name, str) and name for name in self.parts)
        if not named or len(set(self.parts)) < len(self.parts) or len(self.parts) > MOST_PARTS:
            raise _must("parts", f"at most {MOST_PARTS} different names", list(self.parts))
        if self.hearing is not None and (self.kind != "features" or self.hearing.shape != self.shape):
            raise _must("hearing", "that of features of this shape", self.hearing)

    def __str__(self) -> str:
        what = "images" if self.kind == "image" else f"{self.kind} inputs"
        parts = f" × {{{', '.join(self.parts)}}}" if self.parts else ""
        vocabulary = f" (vocabulary {self.vocabulary})" if self.vocabulary is not None else ""
        rate = f" ({self.sample_rate} Hz)" if self.sample_rate is not None else ""
        heard = f" ({self.hearing})" if self.hearing is not None else ""
        return f"{what} {list(self.shape)}{parts}{vocabulary}{rate}{heard}"

    @property
    def noun(self) -> str:
        """What a message calls several samples."""
        return "images" if self.kind == "image" else "samples"

    @property
    def numbers(self) -> int:
        """How many numbers a sample is."""
        return math.prod(self.shape) * max(1, len(self.parts))

    def stored(self) -> dict[str, Any]:
        """It as plain values, for JSON and YAML, without what is not said."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.hearing is not None:
            values["hearing"] = self.hearing.stored()
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items() if v not in (None, ())}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Spec":
        """Return the reverse of `stored`. Raises TypeError or DataError for what it is not."""
        more: dict[str, Any] = {"shape": tuple(stored.get("shape", ())), "parts": tuple(stored.get("parts", ()))}
        if "hearing" in stored:
            more["hearing"] = Hearing.of(stored["hearing"])
        return cls(**{**stored, **more})

    def to_network(self, stored: Inputs) -> Inputs:
        """Return what a network is shown: images and sounds of whole numbers as float32 fractions of full scale, token
        ids as int64, all else as float32.
        """
        return each(stored, self._shown)

    def _shown(self, stored: Tensor) -> Tensor:
        if self.kind == "text":
            return stored.long()
        shown = stored.float()
        if stored.dtype == torch.uint8 and self.kind == "image":
            return shown.div_(255)
        return shown.div_(PCM) if stored.dtype == torch.int16 and self.kind == "audio" else shown

    def blank(self, n: int, device: torch.device | str = "cpu") -> Inputs:
        """`n` inputs as a network is shown them, of zeros (token 0 of every vocabulary), masks of ones; of texts that
        are bytes a sentence, for nobody is shown none.
        """
        if self.vocabulary == BYTES and not self.parts and len(self.shape) == 1:
            said = SAID_NOTHING[: self.shape[0]].ljust(self.shape[0], b"\0")
            return torch.tensor(list(said), device=device).repeat(n, 1)
        dtype = torch.int64 if self.kind == "text" else torch.float32
        made = {
            name: torch.full((n, *self.shape), int(name.endswith("mask")), dtype=dtype, device=device)
            for name in self.parts or ("",)
        }
        return made if self.parts else made[""]

    def check(self, stored: Inputs) -> None:
        """Raise DataError where stored samples of a data set are not what this says; their values are looked at by
        `check_values`.
        """
        if found := self.misfit(stored):
            raise self.refused(found)

    def misfit(self, stored: object) -> str | None:
        """Return what stored samples are, where they are not what this says."""
        if (
            isinstance(stored, Tensor) and not self.parts and stored.shape[1:] == self.shape
        ):  # nearly always: no detours
            return None if self._may_hold(stored.dtype) else _named(stored)
        if not isinstance(stored, Tensor | Mapping):
            return type(stored).__name__
        names = tuple(sorted(stored)) if isinstance(stored, Mapping) else ()
        if names != tuple(sorted(self.parts)):
            return f"tensors called {', '.join(map(str, names))}" if names else "a single tensor"
        for value in tensors(stored):
            if not self._may_hold(value.dtype) or tuple(value.shape[1:]) != self.shape:
                return _named(value)
        return "parts of differing lengths" if len({len(value) for value in tensors(stored)}) > 1 else None

    def _may_hold(self, dtype: torch.dtype) -> bool:
        if self.kind == "image":
            return dtype == torch.uint8
        if self.kind == "text":
            return not dtype.is_floating_point and not dtype.is_complex
        if self.kind == "audio":
            return dtype.is_floating_point or dtype == torch.int16
        return not dtype.is_complex

    def check_values(self, stored: Inputs) -> None:
        """Raise DataError for token ids outside the vocabulary, and for numbers that are none."""
        for name, value in stored.items() if isinstance(stored, Mapping) else [("", stored)]:
            if value.numel() == 0:
                continue
            if self.vocabulary is not None and not name.endswith("mask"):
                low, high = (int(end) for end in value.aminmax())
                if low < 0 or high >= self.vocabulary:
                    got = low if low < 0 else high
                    raise DataError.must(KEY, f"one of token ids from 0 to {self.vocabulary - 1}", got)
            if value.is_floating_point() and not value.isfinite().all():
                number = int((~value.isfinite()).flatten(1).any(1).sum())
                raise DataError.must(KEY, "one of finite numbers", Phrase(f"NaN or infinity in {number} sample(s)"))

    def refused(self, found: str) -> DataError:
        """Return the refusal of samples that are no such thing: they would mean something else to a network."""
        if self.kind != "image":
            return DataError.must(KEY, f"one of {self} stored as {STORED_AS[self.kind]}", Phrase(found))
        return no_images(found)

    def arguments(self, constructor: Callable[..., Any]) -> dict[str, Any]:
        """Return what the constructor of a network is called with beside its own: `input_shape`, and `spec` where it
        asks.
        """
        about = {"input_shape": self.shape, "spec": self}
        try:
            known = dict(signature(constructor).parameters)
        except (TypeError, ValueError):  # nobody knows: calling it says what is missing
            known = {}
        asks = "spec" in known
        shape = not asks or "input_shape" in known or any(p.kind == Parameter.VAR_KEYWORD for p in known.values())
        return {key: about[key] for key, wanted in (("input_shape", shape), ("spec", asks)) if wanted}


def image_spec(shape: Sequence[int]) -> Spec:
    """That of images of `[channels, height, width]`; DataError for other shapes."""
    if len(shape) != 3:
        raise no_images(f"samples of {list(shape)}")
    return Spec("image", tuple(shape))


def no_images(found: str) -> DataError:
    """Return the refusal of what should be images and is not: divided by 255, as bytes are, it would mean something
    else.
    """
    hint = (
        "Store images as bytes from 0 to 255; say of texts, sounds and features what they are, by a "
        "kd_cli.data.spec.Spec."
    )
    return DataError.must(KEY, "one of uint8 images [channels, height, width]", Phrase(found), hint)


def _named(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of {list(value.shape[1:])}"


def _must(name: str, rule: str, value: Any) -> DataError:
    return DataError.must(KEY, f"one with a Spec whose {name} is {rule}", Phrase(repr(value)))
