"""What was understood of a folder of files: a line for the person who typed its name, and the same for result.json."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_cli.data.layout import Kind, Layout
from kd_cli.data.samples import Split

NAMES = {"train": "training", "validation": "validation", "transfer": "transfer", "test": "test"}
SHOWN = 10


def understood(
    root: str,
    kind: Kind,
    layout: Layout,
    splits: Mapping[str, Split],
    formats: Iterable[str],
    sizes: str,
    remarks: Sequence[str],
) -> dict[str, Any]:
    """Return what was understood, in plain values, and in a `line`. `sizes` says how large the files' contents are, in
    its own unit.
    """
    per_class = Counter(label for split in splits.values() for label in split.labels.tolist())
    about = {
        "splits": {part: len(split) for part, split in splits.items()},
        "folders": {part: place.relative_to(layout.root).as_posix() for part, place in layout.places.items()},
        "classes": {name: per_class[number] for number, name in enumerate(layout.classes)},
        "formats": dict(Counter(formats).most_common()),
        "sizes": sizes,
        "ignored": dict(Counter(_ending(path) for path in layout.others).most_common()),
        "beside": layout.beside,
        "remarks": list(remarks),
    }
    return {"line": _line(root, kind.noun, about), **about}


def _line(root: str, noun: str, about: Mapping[str, Any]) -> str:
    files, places = sum(about["splits"].values()), about["folders"]
    splits = [
        f"{count:,} {NAMES[part]}" + (f" ({places[part]}/)" if part in places else "")
        for part, count in about["splits"].items()
    ]
    said = [
        f"{files:,} {noun}s in {len(about['classes'])} classes ({_each(about['classes'])})",
        ", ".join(splits),
        _some(about["formats"]),
        about["sizes"],
        *about["remarks"],
    ]
    if about["ignored"]:
        said.append(f"ignored: {_some(about['ignored'])}")
    if about["beside"]:
        said.append(f"not used: {_first(about['beside'])}")
    return f"{root}: {'; '.join(text for text in said if text)}"


def _some(counts: Mapping[str, int]) -> str:
    return _first(f"{n:,} {name}" for name, n in counts.items())


def _each(counts: Mapping[str, int]) -> str:
    return _first(f"{name} {n:,}" for name, n in counts.items())


def _first(texts: Iterable[str]) -> str:
    some = list(texts)
    return ", ".join(some[:SHOWN]) + (", …" if len(some) > SHOWN else "")


def _ending(path: Path) -> str:
    return path.suffix.lower() or "without an ending"
