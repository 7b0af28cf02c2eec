"""A file of a teacher's answers: CSV, TSV, JSON Lines or Parquet by its columns, npz or safetensors by its arrays."""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from kd_cli.data.splits import same_form
from kd_cli.errors import ArtifactError, DataError, KdError, Phrase, first_line, reading
from kd_cli.files.rows import ENDINGS, Rows, read_rows
from kd_cli.store.tensor_header import header_of
from kd_cli.teachers.told import as_row, numbers_of, parse

ARRAYS = (".npz", ".safetensors")
KEYS = ("key", "file", "file_name", "filename", "name", "path", "image", "index", "id")  # columns that name a sample
WHOLE = (
    "logits",
    "log_probabilities",
    "logprobs",
    "log_probs",
    "probabilities",
    "probs",
    "scores",
    "answer",
    "outputs",
)
LABELS = ("label", "labels", "prediction", "predictions", "predicted", "class", "pred")
BEFORE = r"(?:logit|logits|prob|probs|probability|p|logprob|log_prob|score|class)_?"  # of a class in a column's name
NAME_OF = re.compile(r"(?:class|label|top|pred|prediction)_?(\d+)$")
VALUE_OF = re.compile(r"(?:p|prob|probability|score|value|confidence|logprob|log_prob|logit)_?(\d+)$")


@dataclass(frozen=True)
class AnswerFile:
    """The samples that the rows are about, None where that is said by their place; what they say, `[n, classes]` as
    `as_row`; and whether that is a class name alone.
    """

    keys: list[str] | None
    values: Tensor
    labels: bool


def read_answers(path: Path, classes: Sequence[str], key: str | None, place: str) -> AnswerFile:
    """Return what a file says; raise DataError, in the name of `place`, where it says nothing about these classes.
    `key` is the column that names a sample, None to find it.
    """
    ending = path.suffix.lower()
    if ending not in (*ENDINGS, *ARRAYS):
        raise DataError.must(place, f"a file of answers ({', '.join((*ENDINGS, *ARRAYS))})", str(path))
    if not path.is_file():
        raise DataError.must(place, "a file", Phrase(f"{str(path)!r}, which is none"))
    if ending in ARRAYS:
        return _of_arrays(_arrays(path, place), classes, path, place)
    return _of_rows(read_rows(path, place), classes, key, path, place)


def _of_rows(table: Rows, classes: Sequence[str], key: str | None, path: Path, place: str) -> AnswerFile:
    small = {name.lower(): name for name in reversed(table.columns)}
    if key is not None and key not in table.columns:
        raise DataError.must(".key", f"a column of {path} ({', '.join(table.columns[:20])})", key)
    found = key or next((small[name] for name in KEYS if name in small), None)
    keys = None if found is None else [str(value).strip() for value in table.column(found)]
    if not table.rows:
        raise DataError(f"{path} has no rows.")
    tell, labels = _telling([name for name in table.columns if name != found], classes, path, place)
    places = {name: number for number, name in enumerate(table.columns)}
    values = []
    for number, row in enumerate(table.rows):
        try:
            values.append(as_row(tell(row, places), len(classes)))
        except (ValueError, RecursionError) as error:
            which = f"row {number + 1}" if keys is None else f"the row of {keys[number]!r}"
            raise DataError(f"{path}: {which}: {first_line(error)}.") from error
    return AnswerFile(keys, torch.tensor(values, dtype=torch.float64), labels)


def _telling(columns: list[str], classes: Sequence[str], path: Path, place: str) -> tuple[Any, bool]:
    """A function of (row, the columns' places) → what `parse` gives, by the columns that there are; and whether they
    hold the best class alone.
    """
    numbers = numbers_of(classes)
    few = {match[1]: name for name in columns if (match := NAME_OF.match(name.lower()))}
    its = {match[1]: name for name in columns if (match := VALUE_OF.match(name.lower()))}
    if pairs := [(few[rank], its[rank]) for rank in sorted(few, key=int) if rank in its]:

        def some(row: Sequence[Any], at: Mapping[str, int]) -> int | dict[int, float]:
            told = [
                [row[at[name]], _number(row[at[value]])] for name, value in pairs if row[at[name]] not in ("", None)
            ]
            return parse(told, numbers) if told else {}

        return some, False
    if wanted := _columns_of(classes, columns):

        def every(row: Sequence[Any], at: Mapping[str, int]) -> int | dict[int, float]:
            cells = [row[at[name]] for name in wanted]
            return {k: _number(cell) for k, cell in enumerate(cells) if cell not in ("", None)}

        return every, False
    small = {name.lower(): name for name in reversed(columns)}
    for names, labels in ((WHOLE, False), (LABELS, True)):
        if column := next((small[name] for name in names if name in small), None):
            return lambda row, at: parse(_json(row[at[column]]), numbers) if row[at[column]] != "" else {}, labels
    there, shown = ", ".join(columns[:20]) or "nothing beside the samples", ", ".join(classes[:10])
    rule = (
        f"a file with a column for each class ({shown}), for a few and their numbers (class_1, p_1), or for the label"
    )
    raise DataError.must(place, rule, Phrase(f"{str(path)!r}, which has {there}"))


def _columns_of(classes: Sequence[str], columns: list[str]) -> list[str]:
    """The column of each class, by its name or its number, whatever stands before it; [] where one has none."""
    for strip in ("", BEFORE):
        named = {same_form(re.sub(f"^{strip}", "", name, flags=re.IGNORECASE)): name for name in reversed(columns)}
        wanted = [named.get(same_form(name)) or named.get(str(k)) for k, name in enumerate(classes)]
        if found := [name for name in wanted if name is not None] if None not in wanted else []:
            return found
    return []


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"{str(cell)[:60]!r} is no number") from None


def _arrays(path: Path, place: str) -> dict[str, np.ndarray]:
    """The arrays of a file, by name; nothing in it is run."""
    try:
        with reading(path):
            if path.suffix.lower() == ".safetensors":
                header_of(path)
                return {name: value.float().numpy() if value.is_floating_point() else value.numpy()
                        for name, value in load_file(path).items()}  # fmt: skip
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except (KdError, MemoryError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError.must(place, "a file of plain arrays", Phrase(f"{str(path)!r}: {first_line(error)}")) from error


def _of_arrays(arrays: dict[str, np.ndarray], classes: Sequence[str], path: Path, place: str) -> AnswerFile:
    small = {name.lower(): value for name, value in arrays.items()}
    named = next((small[key] for key in (*KEYS, "names", "files", "keys", "paths") if key in small), None)
    keys = None if named is None else [str(value) for value in named.tolist()]
    flat = {name: value for name, value in small.items() if value.ndim == 2 and value.dtype.kind == "f"}
    whole = next((flat[name] for name in (*WHOLE, "values") if name in flat), None)
    if whole is None and len(flat) == 1:
        (whole,) = flat.values()
    few = small.get("classes")
    labels = next((small[name] for name in LABELS if name in small and small[name].ndim == 1), None)
    shown = ", ".join(f"{name} {list(value.shape)}" for name, value in arrays.items()) or "nothing"
    rule = f"a file with an array [samples, {len(classes)}], [samples, k] beside classes [samples, k], or labels"
    count = len(whole) if whole is not None else len(labels) if labels is not None else 0
    if not count or (keys is not None and len(keys) != count):
        raise DataError.must(place, rule, Phrase(f"{str(path)!r}, which holds {shown}"))
    if whole is None:
        numbers = numbers_of(classes)
        try:
            told = (
                [as_row(parse(value, numbers), len(classes)) for value in labels.tolist()] if labels is not None else []
            )
        except ValueError as error:
            raise DataError(f"{path}: {error}.") from error
        return AnswerFile(keys, torch.tensor(told, dtype=torch.float64), True)
    values = torch.from_numpy(whole.astype("float64"))
    if few is not None and few.shape == whole.shape and few.dtype.kind in "iu":
        if few.min() < 0 or few.max() >= len(classes):
            raise ArtifactError(f"{path}: classes are numbered from 0 to {len(classes) - 1}.")
        spread = torch.full((count, len(classes)), float("nan"), dtype=torch.float64)
        return AnswerFile(keys, spread.scatter(1, torch.from_numpy(few.astype("int64")), values), False)
    if values.shape[1] != len(classes):
        raise DataError.must(place, rule, Phrase(f"{str(path)!r}, which holds {shown}"))
    return AnswerFile(keys, values, False)
