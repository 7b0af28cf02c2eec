"""What a teacher told of samples, in whatever form, as logits in the order of the classes.

Logits, probabilities and log-probabilities are told apart by looking at them. Of a sample a teacher may tell a few
classes alone, whose rest is spread evenly, or the best class alone.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kd_cli.data.splits import same_form
from kd_cli.ranges import is_number

OUTPUTS = ("logits", "probabilities", "log_probabilities", "labels")
LABEL_KEYS = ("label", "class", "class_name", "name", "token")
VALUE_KEYS = ("score", "probability", "prob", "logprob", "logit", "confidence", "value")
MOST_DECIMALS = 5  # of probabilities that count as rounded
SUM_SLACK = 0.02  # by which unrounded probabilities may miss 1
LEAST = float(torch.finfo(torch.float32).tiny)  # in place of a probability of 0


def numbers_of(classes: Sequence[str]) -> dict[str, int]:
    """Return the number of each class by its name, in the one form in which names are compared."""
    return {same_form(name): number for number, name in enumerate(classes)}


def parse(value: Any, numbers: Mapping[str, int], others: bool = False) -> int | dict[int, float]:
    """Return what a value says of one sample: the number of a class, or numbers for all or some classes. With `others`
    it may name classes that there are not, which then count as nothing.

    It is a list of numbers in the order of the classes, a mapping of names to numbers, a list of such as
    `{"label": …, "score": …}`, or a class by its name or number; also as JSON in a text. Raises ValueError with a
    reason for anything else.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        value = json.loads(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) and not _is_pair(value[0]):
        value = value[0]  # a batch of one
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return _class(value, numbers)
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list) and value and all(is_number(each) for each in value):
        if len(value) != len(numbers):
            raise ValueError(f"{len(value)} numbers for {len(numbers)} classes")
        return dict(enumerate(map(float, value)))
    elif isinstance(value, list) and value:
        pairs = [_pair(each) for each in value]
    else:
        raise ValueError(f"{_short(value)} is no answer")
    found: dict[int, float] = {}
    for name, number in pairs:
        if others and same_form(str(name)) not in numbers:
            continue
        if not is_number(number):
            raise ValueError(f"{_short(number)} is no number")
        place = _class(name, numbers)
        if place in found:
            raise ValueError(f"the class {_short(name)} stands there twice")
        found[place] = float(number)
    if not found:
        raise ValueError("no class is named")
    return found


def _class(value: str | int | float, numbers: Mapping[str, int]) -> int:
    """The number of a class by its name, or else by its number."""
    whole = isinstance(value, float) and value.is_integer()
    text = same_form(str(int(value) if whole else value).strip())
    if text in numbers:
        return numbers[text]
    if text.isdecimal() and int(text) < len(numbers):
        return int(text)
    raise ValueError(f"{_short(value)} is no class")


def _is_pair(each: Any) -> bool:
    return isinstance(each, list) and len(each) == 2 and isinstance(each[0], str)


def _pair(each: Any) -> tuple[Any, Any]:
    if isinstance(each, list) and len(each) == 2:
        return each[0], each[1]
    if isinstance(each, Mapping):
        label = next((key for key in LABEL_KEYS if key in each), None)
        value = next((key for key in VALUE_KEYS if key in each), None)
        if label and value:
            return each[label], each[value]
    raise ValueError(f"{_short(each)} names no class with a number")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def as_row(told: int | dict[int, float], classes: int) -> list[float]:
    """Return what was told of a sample, `[classes]`: NaN for a class of which nothing was, 1 for a label alone."""
    row = [math.nan] * classes
    for number, value in ({told: 1.0} if isinstance(told, int) else told).items():
        row[number] = value
    return row


@dataclass(frozen=True)
class Form:
    """What the numbers of a teacher are: one of `OUTPUTS`. Rounded probabilities have so many `decimals`; of a sample
    at most `top_k` classes are told, None for all.
    """

    outputs: str
    top_k: int | None = None
    decimals: int | None = None
    zeros: float = 0.0  # their share

    @property
    def labels(self) -> bool:
        """Whether the best class alone is told."""
        return self.outputs == "labels"

    def __str__(self) -> str:
        if self.labels:
            return "the best class alone, without dark knowledge"
        said = self.outputs.replace("_", "-")
        if self.top_k:
            said = f"the {said} of {self.top_k} classes, the rest of the mass spread evenly"
        if self.decimals is None:
            return said
        unit = 10.0**-self.decimals
        lost = f", {self.zeros:.0%} of them 0, which are taken for {unit / 4:g}" if self.zeros else ""
        return (
            f"{said} rounded to {self.decimals} decimals: each is known to ± {unit / 2:g}{lost}. High temperatures "
            "show what is lost of the small ones"
        )

    def to_logits(self, values: Tensor) -> Tensor:
        """Return float32 logits `[n, classes]` of what was told, `as_row`; where nothing was, the row is NaN."""
        known, exact = ~values.isnan(), values.double()
        silent = ~known.any(1, keepdim=True)
        if self.labels:
            best = exact.nan_to_num(-math.inf).argmax(1, keepdim=True)
            logits = torch.full_like(exact, -math.inf).scatter(1, best, 0.0)
        elif self.outputs == "logits":
            logits = exact
        else:
            least = 10.0**-self.decimals / 4 if self.decimals is not None else LEAST
            logits = exact.clamp(min=least).log() if self.outputs == "probabilities" else exact
            others = (~known).sum(1, keepdim=True)
            rest = 1 - logits.exp().nan_to_num().sum(1, keepdim=True)
            each = (rest / others.clamp(min=1)).clamp(min=least)
            logits = torch.where(known, logits, each.log())
        return logits.masked_fill(silent, math.nan).float()


def look(values: Tensor, asked: str | None, labels: bool) -> Form:
    """Return what these numbers are, `[n, classes]` as `as_row` gives them; `asked` says it where a person did, and
    `labels` says that they are class names alone. Raises ValueError for few logits, whose rest nobody knows.
    """
    known = ~values.isnan()
    values, known = values[known.any(1)], known[known.any(1)]
    if not len(values):
        raise ValueError("there is no answer")
    told = values.nan_to_num()
    if labels or asked == "labels" or bool(((told == 0) | (told == 1)).all() and (told.sum(1) == 1).all()):
        return Form("labels")
    most = int(known.sum(1).max())
    top_k = None if bool(known.all()) else most
    outputs = asked or _found(values, known)
    if outputs == "logits" and top_k:
        raise ValueError(f"logits of {most} classes alone do not say what the others weigh: tell all, or probabilities")
    if outputs != "probabilities":
        return Form(outputs, top_k)
    if bool((told < 0).any()) or bool((told > 1).any()):
        raise ValueError("probabilities lie between 0 and 1")
    said = values[known]
    return Form(outputs, top_k, _decimals(said), float((said == 0).double().mean()))


def _found(values: Tensor, known: Tensor) -> str:
    """What numbers must be, by their size and their sums."""
    told = values.double().nan_to_num()
    whole = known.all(1)
    decimals = _decimals(values[known])
    slack = SUM_SLACK + (values.shape[1] * 10.0**-decimals / 2 if decimals is not None else 0)

    def sums(mass: Tensor) -> bool:
        return bool((mass <= 1 + slack).all()) and bool((mass[whole] >= 1 - slack).all())

    if bool(((told >= 0) & (told <= 1)).all()) and sums(told.sum(1)):
        return "probabilities"
    chances = torch.where(known, told.exp(), 0.0)
    if bool((told <= 1e-4).all()) and sums(chances.sum(1)):
        return "log_probabilities"
    return "logits"


def _decimals(values: Tensor) -> int | None:
    """To how many decimals numbers are rounded; None where they are not, or are too few to say."""
    exact = values.double()
    for decimals in range(1, MOST_DECIMALS + 1):
        scaled = exact * 10**decimals
        if len(exact) >= 8 and bool(((scaled - scaled.round()).abs() < 1e-6 + 1.2e-7 * 10**decimals).all()):
            return decimals
    return None
