"""Texts of one's own: CSV, TSV, JSON lines, Parquet, or a data set of the Hugging Face hub.

`root` is one file, of which the test split is set apart, or a folder with a file for each split: `train`, `test`, and
where wanted `validation` (`valid`, `val`, `dev`) and `transfer` (`unlabelled`), whose rows may lack labels.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_cli.data.samples import UNLABELLED, Dataset, Split
from kd_cli.data.splits import assemble, keep_classes, same_form, stratified, whole
from kd_cli.data.tables import Row, column_of, is_table, rows_of
from kd_cli.data.texts import Text, encoded, stored
from kd_cli.errors import DataError, Phrase, first_line, must
from kd_cli.extras import library
from kd_cli.files.rows import ENDINGS
from kd_cli.progress import log
from kd_cli.ranges import is_number, is_whole, whole_number

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "transfer": ("transfer", "unlabelled", "unlabeled", "unsupervised"),
    "test": ("test",),
}
LARGEST = 1 << 20  # bytes of a text
LISTED = 10


@dataclass(frozen=True)
class _Table:
    """The rows of a split: where they are from, their texts, and the names of their classes, None where unlabelled."""

    path: Path
    texts: list[Text]
    labels: list[str | None]


def text(
    root: str = "data",
    hub: str | None = None,
    subset: str | None = None,
    text: str | Sequence[str] = "text",
    label: str = "label",
    longest: int = 1024,
    test: float = 0.2,
    validation: float = 0,
    seed: int = 0,
) -> Dataset:
    """Return the data set of a file, of a folder of files, or of the hub."""
    whole_number(".dataset.longest", longest, 16, LARGEST, what="a number of bytes")
    whole_number(".dataset.seed", seed, 0)
    columns = [text] if isinstance(text, str) else list(text) if isinstance(text, Sequence) else []
    if len(columns) not in (1, 2) or not all(isinstance(name, str) for name in columns):
        raise must(".dataset.text", "the name of a column, or a list of two", text)
    found = (
        _hub(hub, subset, label)
        if hub is not None
        else {part: (path, rows_of(path, ".dataset.root")) for part, path in _files(root).items()}
    )
    tables = {part: _table(path, rows, columns, label, part == "transfer") for part, (path, rows) in found.items()}
    classes = _classes(tables["train"].labels)
    splits = {part: _split(table, classes, longest) for part, table in tables.items()}
    train = splits["train"]
    if "test" not in splits:
        train, splits["test"] = _set_apart(train, test, seed, classes)
    made = assemble(
        "text",
        train,
        splits["test"],
        classes,
        train.samples.spec,
        splits.get("validation", validation),
        seed,
        splits.get("transfer"),
    )
    _say(made, tables, longest)
    return made


def _files(root: str) -> dict[str, Path]:
    """The file of each split, by its name."""
    base, kinds = Path(root), ", ".join(ENDINGS)
    if base.is_file():
        if not is_table(base):
            raise DataError.must(".dataset.root", f"a folder or a file of texts ({kinds})", str(root))
        return {"train": base}
    listed = sorted(path for path in base.iterdir() if is_table(path)) if base.is_dir() else []
    found: dict[str, Path] = {}
    for part, names in PARTS.items():
        files = [path for path in listed if path.stem.lower() in names]
        if len(files) > 1:
            raise DataError(
                f"{base} must hold one file for each split, got {' and '.join(path.name for path in files)}."
            )
        if files:
            found[part] = files[0]
    if "train" not in found:
        there = Phrase(
            f"{root!r}, " + (f"which holds {_some([p.name for p in listed])}" if listed else "where none is")
        )
        hint = "Name the files train and test, or give one file, of which {}=0.2 is set apart."
        rule = f"a file of texts ({kinds}), or a folder with train and test files"
        raise DataError.must(".dataset.root", rule, there, hint, ".dataset.test")
    return found


def _hub(name: str, subset: str | None, label: str) -> dict[str, tuple[Path, list[Row]]]:
    """The splits of a data set of the hub, labels by their names."""
    datasets = library("datasets", "hub", "dataset.hub")
    try:
        loaded = datasets.load_dataset(name, subset)
    except Exception as error:  # the network, the hub or the data set's own files
        got = Phrase(f"{name!r}: {first_line(error)}")
        hint = "Without a network, save it as files and give their folder as {}."
        raise DataError.must(
            ".dataset.hub", "a data set of the hub that can be fetched", got, hint, ".dataset.root"
        ) from error
    found = {}
    for part, names in PARTS.items():
        if its := next((each for each in loaded if each in names), None):
            named = {key: f.names for key, f in loaded[its].features.items() if hasattr(f, "names")}
            found[part] = (Path(f"{name}:{its}"), [_named(row, named) for row in loaded[its]])
    if "train" not in found:
        raise DataError.must(".dataset.hub", "a data set with a split called train", Phrase(f"{_some(list(loaded))}"))
    if all(row.get(label) in (None, -1) for row in found.get("test", ("", []))[1]):
        found.pop("test", None)  # a benchmark keeps the labels of its test split to itself
    return found


def _named(row: Row, names: Mapping[str, Sequence[str]]) -> Row:
    return {k: names[k][v] if k in names and isinstance(v, int) and v >= 0 else v for k, v in row.items()}


def _table(path: Path, rows: list[Row], columns: Sequence[str], label: str, unlabelled: bool) -> _Table:
    """The texts and labels of a file; DataError for the rows without."""
    parts = [column_of(path, rows, name, ".dataset.text") for name in columns]
    empty = [k for k in range(len(rows)) if not all(isinstance(part[k], str) and part[k].strip() for part in parts)]
    if empty:
        raise DataError(
            f"{path}: {len(empty)} text(s) are empty: rows {_some([k + 1 for k in empty])}. Leave them out."
        )
    if unlabelled and label not in rows[0]:
        labels: list[Any] = [None] * len(rows)
    else:
        labels = [_label(value) for value in column_of(path, rows, label, ".dataset.label")]
    missing = [k for k, value in enumerate(labels) if value is None]
    if missing and not unlabelled:
        hint = "Put them into a file of their own, called transfer."
        raise DataError(
            f"{path}: {len(missing)} row(s) have no {label}: rows {_some([k + 1 for k in missing])}. {hint}"
        )
    return _Table(path, list(parts[0]) if len(parts) == 1 else list(zip(*parts, strict=True)), labels)


def _label(value: Any) -> str | None:
    """A class's name: of 1.0, which a table with gaps makes of 1, `1`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    name = "" if value is None else same_form(str(value).strip())
    return name or None


def _classes(labels: Sequence[str | None]) -> list[str]:
    """Their names, in the order of their numbers where all are some."""
    names = {name for name in labels if name is not None}
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def _split(table: _Table, classes: Sequence[str], longest: int) -> Split:
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted({name for name in table.labels if name is not None} - numbers.keys()):
        got = f"of {len(unknown)} class(es) that no training text has: {_some(unknown)}"
        raise DataError(f"{table.path} holds texts {got}.")
    labels = torch.tensor([UNLABELLED if name is None else numbers[name] for name in table.labels])
    return whole(stored([encoded(each, longest) for each in table.texts], longest), labels)


def _set_apart(train: Split, test: float, seed: int, classes: Sequence[str]) -> tuple[Split, Split]:
    """The training texts without those that are to test on."""
    fits = (is_number(test) and 0 < test < 1) or is_whole(test, 1)
    if not fits or not 1 <= (round(test * len(train)) if test < 1 else test) < len(train):
        rule = f"a fraction below 1, or a count below {len(train)}, where there is no file of test texts"
        raise must(".dataset.test", rule, test)
    held_out = stratified(train.labels, round(test * len(train)) if test < 1 else int(test), seed)
    rest = torch.ones(len(train), dtype=torch.bool)
    rest[held_out] = False
    rule = "small enough to leave every class a sample"
    keep_classes(".dataset.test", test, rule, train.labels, train.labels[rest], classes)
    return train.select(rest.nonzero()[:, 0]), train.select(held_out)


def _say(dataset: Dataset, tables: Mapping[str, _Table], longest: int) -> None:
    """What was understood, in a line before anything trains."""
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    if dataset.transfer is not dataset.train:
        parts["transfer"] = dataset.transfer
    shown = ", ".join(f"{len(split):,} {part}" for part, split in parts.items() if split is not None)
    lengths = torch.cat([split.samples.lengths for split in parts.values() if split is not None])  # type: ignore[attr-defined]
    log.info(
        "text: %s texts of %d classes from %s; %d to %d bytes, half of them at most %d",
        *(shown, len(dataset.classes), ", ".join(table.path.name for table in tables.values())),
        *(int(lengths.min()), int(lengths.max()), int(lengths.median())),
    )
    cut = sum(_size(each) > longest for table in tables.values() for each in table.texts)
    if cut:
        log.warning("text: %d text(s) are cut off after %d bytes: raise dataset.longest to read more", cut, longest)
    if twice := int(torch.isin(_digests(dataset.test), _digests(dataset.train)).sum()):
        log.warning("text: %d test text(s) are among the training texts too: they test nothing", twice)


def _size(each: Text) -> int:
    return len(each.encode()) if isinstance(each, str) else sum(len(part.encode()) for part in each) + 1


def _digests(split: Split) -> Tensor:
    samples: Any = split.samples
    found = [hashlib.blake2b(samples[k], digest_size=7).digest() for k in range(len(split))]
    return torch.tensor([int.from_bytes(each) for each in found], dtype=torch.int64)


def _some(listed: Sequence[Any]) -> str:
    return ", ".join(map(str, listed[:LISTED])) + (", …" if len(listed) > LISTED else "")
