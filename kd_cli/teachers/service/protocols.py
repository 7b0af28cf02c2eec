"""What a request to a service holds, and where its answer stands: a template, KServe v2 (Triton), or a chat."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from torch import Tensor

from kd_cli.data.inputs import Inputs
from kd_cli.errors import must
from kd_cli.teachers.service.content import Sample, filled
from kd_cli.teachers.told import numbers_of, parse

PROTOCOLS = ("json", "kserve", "chat")
NUMBERS = {"FP32": float, "FP64": float, "UINT8": int, "INT32": int, "INT64": int}
MOST_TOKENS = 20  # with their log-probabilities: what the usual services tell
PROMPT = "Which of these classes is it: {classes}? Answer with one of these names alone."
OUTPUTS = {"kserve": "outputs.0.data", "chat": "choices.0"}


@dataclass(frozen=True)
class Protocol:
    """How a service of these `classes` is asked. `request` is a template (of the body, or of a chat's message),
    `answer` the path to what it tells of the sample.
    """

    name: str
    classes: Sequence[str]
    request: Any
    answer: str | None
    model: str | None
    revision: str | None
    input: str
    datatype: str

    @property
    def stated(self) -> dict[str, Any]:
        """All of it that determines what is asked and understood."""
        about = {"protocol": self.name, "request": self.request, "answer": self.answer, "model": self.model}
        about |= {"revision": self.revision, "classes": list(self.classes)}
        return about | ({"input": self.input, "datatype": self.datatype} if self.name == "kserve" else {})

    def url(self, base: str) -> str:
        """Return the address that is asked: of KServe, that of its server is enough."""
        if self.name != "kserve" or base.rstrip("/").endswith("/infer") or not self.model:
            return base
        version = f"/versions/{quote(self.revision, safe='')}" if self.revision else ""
        return f"{base.rstrip('/')}/v2/models/{quote(self.model, safe='')}{version}/infer"

    def body(self, sample: Sample) -> Any:
        """Return what is sent of a sample. Raises ConfigError for a place of the template that there is not."""
        words = {"classes": ", ".join(self.classes), "model": self.model or ""}
        if self.name == "kserve":
            return {"inputs": self._tensors(sample.stored if self.datatype == "UINT8" else sample.shown)}
        template = self.request
        if self.name == "chat" and not isinstance(template, Mapping):
            template = self._chat(sample)
        elif template is None:
            template = {"input": "{input}" if sample.text is None else "{text}"} | (
                {"model": "{model}"} if self.model else {}
            )
        try:
            return filled(template, sample, words)
        except KeyError as error:
            rule = "a template with {input}, {stored}, {bytes}, {name}, {classes}, {model}, of images {png}"
            rule += ", where the data set has them {text}, of several tensors {input.<part>}"
            raise must(".request", rule, "{" + str(error.args[0]) + "}") from None

    def _tensors(self, inputs: Inputs) -> list[dict[str, Any]]:
        named = inputs if isinstance(inputs, Mapping) else {self.input: inputs}
        return [self._tensor(name, value) for name, value in named.items()]

    def _tensor(self, name: str, value: Tensor) -> dict[str, Any]:
        kind = NUMBERS[self.datatype]
        data = [kind(number) for number in value.flatten().tolist()]
        return {"name": name, "shape": [1, *value.shape], "datatype": self.datatype, "data": data}

    def _chat(self, sample: Sample) -> dict[str, Any]:
        prompt = self.request or PROMPT
        content: Any = prompt
        if sample.spec.kind == "image":
            picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,{png}"}}
            content = [{"type": "text", "text": prompt}, picture]
        elif not self.request:
            content = prompt + "\n\n" + ("{text}" if sample.text is not None else "{input}")
        asked = {"messages": [{"role": "user", "content": content}], "max_tokens": 1, "temperature": 0}
        return {"model": self.model, **asked, "logprobs": True, "top_logprobs": MOST_TOKENS}

    def understand(self, content: Any) -> int | dict[int, float]:
        """Return what a service's answer says of the sample; ValueError with the reason where it says nothing."""
        found = at(content, self.answer or OUTPUTS.get(self.name) or "")
        if self.name == "chat":
            return choice_of(found, self.classes)
        return parse(found, numbers_of(self.classes))


def at(content: Any, path: str) -> Any:
    """Return what stands at a path such as `outputs.0.data` or `outputs[0].data`; ValueError where nothing does."""
    here = content
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(here, list) and step.isdecimal() and int(step) < len(here):
            here = here[int(step)]
        elif isinstance(here, Mapping) and step in here:
            here = here[step]
        else:
            there = ", ".join(map(str, here))[:100] if isinstance(here, Mapping) else f"{len(here)} in a list"
            raise ValueError(f"the answer has no {path!r} (there is: {there})" if isinstance(here, Mapping | list)
                             else f"the answer has no {path!r}")  # fmt: skip
    return here


def choice_of(choice: Any, classes: Sequence[str]) -> int | dict[int, float]:
    """Return the log-probability of each class, by the first token of a chat's answer: one that is the name of a class,
    or the beginning of one class's alone. A class that is not among the tokens has at most the least one's. Without
    log-probabilities, the class that the answer names.
    """
    tokens = None
    if isinstance(choice, Mapping) and choice.get("logprobs"):
        tokens = at(choice, "logprobs.content.0.top_logprobs")
    if not tokens:
        return _named(str(at(choice, "message.content")), classes)
    found: dict[int, float] = {}
    least = 0.0
    for each in tokens:
        token, value = str(at(each, "token")), float(at(each, "logprob"))
        least = min(least, value)
        number = _meant(token, classes)
        if number is not None and math.isfinite(value):
            before = found.get(number, -math.inf)
            found[number] = max(before, value) + math.log1p(math.exp(-abs(before - value)))
    if not found:
        shown = ", ".join(repr(str(each.get("token"))) for each in tokens[:5])
        raise ValueError(f"none of its tokens ({shown}, …) is the name of a class")
    return {number: found.get(number, least) for number in range(len(classes))}


def _meant(token: str, classes: Sequence[str]) -> int | None:
    word = token.strip().strip("\"'`").casefold()
    names = [name.casefold() for name in classes]
    if word in names:
        return names.index(word)
    begun = [number for number, name in enumerate(names) if word and name.startswith(word)]
    return begun[0] if len(begun) == 1 else None


def _named(text: str, classes: Sequence[str]) -> int:
    number = _meant(text.rstrip(" .!\n"), classes)
    if number is None:
        raise ValueError(f"{text[:60]!r} is no class")
    return number
