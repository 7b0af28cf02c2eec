"""Which class a file is of where no folder says it: a table of names and labels, or a pattern of names."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kd_cli.data.layout import File, Kind, Layout, laid_out_by, lay_out, listed, part_of
from kd_cli.data.splits import same_form
from kd_cli.errors import ConfigError, DataError, first_line, must
from kd_cli.files.rows import Rows, read_rows
from kd_cli.progress import log

LABELS, COLUMN, PATTERN = ".dataset.labels", ".dataset.label", ".dataset.pattern"
CALLED_LABEL = (
    "label", "labels", "class", "classes", "class_name", "classname", "category", "target", "species", "breed",
    "diagnosis", "dx", "word", "digit", "y",
)  # fmt: skip
CALLED_SPLIT = ("split", "subset", "set", "dataset", "data_set", "partition", "part")
LOOKED_AT = 200  # rows, to see which column names files

Known = dict[str, tuple[str, str | None]]  # a file's class and part, by its name


def pattern_of(pattern: str, key: str) -> re.Pattern[str]:
    """Return a regular expression with at least one group; ConfigError for what is none."""
    rule = "a regular expression with a group in parentheses"
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise must(key, rule, pattern, f"It is none: {first_line(error)}.") from error
    if not compiled.groups:
        raise must(key, rule, pattern)
    return compiled


def named_groups(names: Sequence[str], pattern: str, key: str) -> list[str]:
    """Return what the groups of a pattern hold in each name, joined by `/`. DataError lists the names that have none of
    it.
    """
    compiled = pattern_of(pattern, key)
    found = [compiled.search(name) for name in names]
    if lost := [name for name, match in zip(names, found, strict=True) if match is None]:
        raise DataError.must(key, f"a pattern that is found in every file's name ({names[0]})", pattern, _missed(lost))
    return ["/".join(text for text in match.groups() if text is not None) for match in found if match]


def _missed(lost: list[str]) -> str:
    return f"{len(lost)} name(s) have none of it: {listed(lost)}."


def by_pattern(pattern: str) -> Callable[[list[File]], Known]:
    """Classes by a pattern of the files' names."""

    def known(files: list[File]) -> Known:
        names = [file.name for file in files]
        found = named_groups(names, pattern, PATTERN)
        return {name: (same_form(text), None) for name, text in zip(names, found, strict=True)}

    return known


def table_path(root: str, labels: str) -> Path:
    """Return where a table of labels is: below the root, else in the current folder."""
    inside = Path(root, labels)
    return inside if inside.exists() else Path(labels)


def by_table(root: str, labels: str, label: str | None) -> Callable[[list[File]], Known]:
    """Classes by a table that lies below the root or elsewhere; `label` is the column of the classes, where it is not
    clear from the names of the columns.
    """
    path = table_path(root, labels)
    table = read_rows(path, LABELS)

    def known(files: list[File]) -> Known:
        return _joined(path, table, files, label)

    return known


def _joined(path: Path, table: Rows, files: list[File], label: str | None) -> Known:
    index = _index(files)
    naming, table = _naming(path, table, index)
    split = _column_of_splits(table)
    classes = _column_of_classes(path, table, {naming, split}, label)
    found: Known = {}
    lost: list[str] = []
    blank: list[str] = []
    torn: list[str] = []
    vague: list[str] = []
    for row in table.rows:
        name = _text(row[naming])
        where = _find(name, index)
        if len(where) != 1:
            (vague if where else lost).append(name)
            continue
        value = same_form(_text(row[classes]))
        if not value:
            blank.append(name)
            continue
        about = (value, part_of(_text(row[split])) if split is not None else None)
        if found.setdefault(where[0], about) != about:
            torn.append(name)
    if vague:
        raise DataError(f"{path}: several files have the name of: {listed(vague)}. Give their paths below the root.")
    if torn:
        raise DataError(f"{path} must hold one label for each file, got several of: {listed(torn)}.")
    if lost:
        log.warning("%s: %d row(s) name no file and are left out: %s", path, len(lost), listed(lost))
    if blank:
        log.warning("%s: %d file(s) have no label and are left out: %s", path, len(blank), listed(blank))
    return found


def _index(files: list[File]) -> dict[str, list[str]]:
    """Names of files by what a table may call them: every end of the path, with and without the file's ending."""
    index: dict[str, list[str]] = {}
    for file in files:
        steps = file.name.split("/")
        for k in range(len(steps)):
            for called in {"/".join(steps[k:]), "/".join(steps[k:]).removesuffix(file.path.suffix)}:
                index.setdefault(same_form(called), []).append(file.name)
    return index


def _find(name: str, index: dict[str, list[str]]) -> list[str]:
    """The files that a table's name may mean, by as much of its path as leads to some."""
    steps = same_form(name).replace("\\", "/").removeprefix("./").split("/")
    for k in range(len(steps)):
        if found := index.get("/".join(steps[k:])):
            exact = [each for each in found if each == name]
            return exact or found
    return []


def _naming(path: Path, table: Rows, index: dict[str, list[str]]) -> tuple[int, Rows]:
    """Which column names the files, and the table: with its first line as a row, where that names one too."""

    def hits(row: Sequence[Any]) -> Iterator[int]:
        return (k for k, cell in enumerate(row) if _find(_text(cell), index))

    counts = [0] * len(table.columns)
    for row in table.rows[:LOOKED_AT]:
        for k in hits(row):
            counts[k] += 1
    first = list(hits(table.columns))
    if first and not any(n > counts[first[0]] for n in counts):
        return first[0], Rows([f"column {k + 1}" for k in range(len(counts))], [table.columns, *table.rows])
    if not any(counts):
        hint = f"Its columns are: {listed(table.columns)}."
        raise DataError.must(LABELS, "a table with a column that names files below the root", str(path), hint)
    return counts.index(max(counts)), table


def _column_of_splits(table: Rows) -> int | None:
    for k, name in enumerate(table.columns):
        if _plain(name) in CALLED_SPLIT and all(part_of(_text(row[k])) for row in table.rows):
            return k
    return None


def _column_of_classes(path: Path, table: Rows, taken: set[int | None], label: str | None) -> int:
    if label is not None:
        if label not in table.columns:
            raise must(COLUMN, f"a column of {path} ({listed(table.columns)})", label)
        return table.columns.index(label)
    left = [k for k in range(len(table.columns)) if k not in taken]
    called = {_plain(table.columns[k]): k for k in reversed(left)}
    known = [called[name] for name in CALLED_LABEL if name in called]
    if known or len(left) == 1:
        return known[0] if known else left[0]
    raise ConfigError.must(COLUMN, f"a column of {path} ({listed([table.columns[k] for k in left])})", None)


def _plain(column: str) -> str:
    return re.sub(r"[ -]+", "_", column.strip().casefold())


def _text(value: Any) -> str:
    """A cell as text: a whole number is written as one, whatever the file holds it as."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value).strip()


def labelled_layout(root: str, kind: Kind, labels: str | None, label: str | None, pattern: str | None) -> Layout:
    """Return what lies below `root`: classes by a table of labels, by a pattern of names, or by folders."""
    if labels is not None and pattern is not None:
        raise must(PATTERN, "null where a table has the labels", pattern)
    if label is not None and labels is None:
        raise must(COLUMN, "null where there is no table of labels", label, "Name one: {}=<file>.", LABELS)
    if labels is not None:
        return laid_out_by(root, kind, by_table(root, labels, label), f"without a row in {labels}")
    if pattern is not None:
        return laid_out_by(root, kind, by_pattern(pattern), "")
    return lay_out(root, kind)
