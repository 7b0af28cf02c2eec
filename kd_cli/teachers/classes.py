"""Which output of a network that is not kd's stands for which class of the data set: by name."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kd_cli.data.samples import Dataset
from kd_cli.data.splits import same_form
from kd_cli.errors import Phrase, did_you_mean, must
from kd_cli.progress import log

KEY = ".classes"
WRITE = "Name its outputs in their order: '{}=[cat,dog]', or say which is which: '{}={cat: tabby, dog: beagle}'."


def outputs_of(asked: Any, own: Sequence[str] | None, count: int, dataset: Dataset) -> list[int]:
    """Return which of `count` outputs stands for each class of the data set.

    `asked` is what a person said: the names of all outputs in their order, or for each class of the data set its name
    among the outputs'. `own` are the names that the outputs were published with, None where there are none: then they
    are the data set's classes in their order. Names are compared as they are, and where that finds nothing without
    regard to case, spaces and underscores. ConfigError, by `.classes`, for a class without an output.
    """
    if isinstance(asked, Mapping):
        renamed = {same_form(str(key)): same_form(str(value)) for key, value in asked.items()}
        if unknown := [key for key in renamed if key not in dataset.classes]:
            raise must(KEY, f"a mapping from the classes of dataset={dataset.name}", unknown[0])
    elif asked is not None and (isinstance(asked, str) or not isinstance(asked, Sequence)):
        raise must(KEY, "a list of names, a mapping of the data set's classes to them, or null", asked, WRITE, KEY, KEY)
    else:
        renamed = {}
        own = [str(name) for name in asked] if asked is not None else own
    if own is None:
        if count != len(dataset.classes):
            got = Phrase(f"nothing about {count} outputs without names")
            rule = f"the names of the teacher's outputs, as dataset={dataset.name} has {len(dataset.classes)} classes"
            raise must(KEY, rule, got, WRITE, KEY, KEY)
        log.info("the teacher does not name its %d outputs: taken for the data set's classes in their order", count)
        own = dataset.classes
    names = [same_form(name) for name in own]
    if len(names) != count:
        raise must(KEY, f"a list of {count} names, one for each output", Phrase(f"{len(names)} names"))
    wanted = [renamed.get(name, name) for name in dataset.classes]
    found = [_place(name, names) for name in wanted]
    if missing := [name for name, place in zip(wanted, found, strict=True) if place is None]:
        hint = f"Missing: {', '.join(missing[:10])}{', …' if len(missing) > 10 else ''}. "
        hint += f"{did_you_mean(missing[0], names)} ".lstrip() + WRITE
        shown = f"[{', '.join(names[:10])}{f', … ({len(names)} in all)' if len(names) > 10 else ''}]"
        rule = f"such that every class of dataset={dataset.name} is among the teacher's"
        raise must(KEY, rule, Phrase(shown), hint, KEY, KEY)
    order = [place for place in found if place is not None]
    if len(set(order)) < len(order):
        twice = next(name for name, place in zip(dataset.classes, order, strict=True) if order.count(place) > 1)
        raise must(KEY, "such that no two classes go to the same output", twice)
    return order


def _place(name: str, names: Sequence[str]) -> int | None:
    """The only output of this name, None where there is none or more than one."""
    for form in (str, _loose, _first):
        places = [k for k, each in enumerate(names) if form(each) == form(name)]
        if len(places) == 1:
            return places[0]
    return None


def _loose(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _first(name: str) -> str:
    """The first of several names that stand for one thing: `tabby, tabby cat` of ImageNet."""
    return _loose(name.partition(",")[0])
