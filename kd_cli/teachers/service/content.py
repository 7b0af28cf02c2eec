"""A sample in a request: as numbers, as bytes or a picture in base64, as its text or its name."""

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image
from torch import Tensor

from kd_cli.data.inputs import Inputs, each, tensors
from kd_cli.data.spec import BYTES, Spec
from kd_cli.data.texts import bytes_of, texts_of
from kd_cli.errors import must

PLACE = re.compile(r"\{([a-z_]+(?:\.[A-Za-z0-9_]+)?)\}")


@dataclass(frozen=True)
class Sample:
    """One sample as it is stored, and what it is called."""

    spec: Spec
    stored: Inputs  # without the dimension of a batch
    name: str

    @cached_property
    def shown(self) -> Inputs:
        """As a network is shown it."""
        one = self.spec.to_network(each(self.stored, lambda value: value[None]))
        return each(one, lambda value: value[0])

    @cached_property
    def text(self) -> str | None:
        """Its text, that of a pair in two lines; None of what is none."""
        if self.spec.kind != "text" or self.spec.vocabulary != BYTES or not isinstance(self.stored, Tensor):
            return None
        (content,) = bytes_of(self.stored[None])
        return "\n".join(texts_of(content))

    def png(self) -> str:
        """Return a picture of it, in base64."""
        if self.spec.kind != "image" or not isinstance(self.stored, Tensor) or self.spec.shape[0] not in (1, 3):
            raise must(".request", "one without {png} for samples that are no images", str(self.spec))
        pixels = self.stored.permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    def value(self, place: str) -> Any:
        """Return what stands at `{place}`. Raises KeyError for what there is not."""
        what, _, part = place.partition(".")
        if what in ("input", "stored"):
            of = self.shown if what == "input" else self.stored
            chosen = of[part] if isinstance(of, Mapping) and part else tensors(of)[0] if not part else None
            if chosen is None or (isinstance(of, Mapping) and not part):
                raise KeyError(place)
            return chosen.tolist()
        if part:
            raise KeyError(place)
        if what == "bytes":
            return base64.b64encode(b"".join(value.numpy().tobytes() for value in tensors(self.stored))).decode()
        if what == "text" and self.text is not None:
            return self.text
        if what == "png":
            return self.png()
        if what == "name":
            return self.name
        raise KeyError(place)


def filled(template: Any, sample: Sample, words: Mapping[str, str]) -> Any:
    """Return a template with the sample in it: a text that is one place alone becomes its value, whatever that is.
    `words` are places that are the same for every sample. Raises KeyError for one that there is not.
    """
    if isinstance(template, Mapping):
        return {key: filled(value, sample, words) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, sample, words) for value in template]
    if not isinstance(template, str):
        return template

    def value(place: str) -> Any:
        return words[place] if place in words else sample.value(place)

    if whole := PLACE.fullmatch(template):
        return value(whole[1])
    return PLACE.sub(lambda match: _as_text(value(match[1])), template)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
