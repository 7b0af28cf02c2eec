"""Tables of texts: rows whose values are called by the names of their columns."""

from pathlib import Path
from typing import Any

from kd_cli.errors import DataError, Phrase, did_you_mean
from kd_cli.files.rows import ENDINGS, read_rows

Row = dict[str, Any]


def is_table(path: Path) -> bool:
    """Return whether a file is a table by its name."""
    return path.suffix.lower() in ENDINGS


def rows_of(path: Path, key: str) -> list[Row]:
    """Return every row of a file as column → value; DataError, in the name of `key`, where it is damaged, names its
    columns alike, or holds none.
    """
    table = read_rows(path, key)
    if len(set(table.columns)) < len(table.columns) or not all(table.columns):
        found = table.columns[:20]
        raise DataError(f"{path} must begin with a line of different names for its columns, got {found}.")
    if not table.rows:
        raise DataError(f"{path} holds no rows.")
    return [dict(zip(table.columns, values, strict=True)) for values in table.rows]


def column_of(path: Path, rows: list[Row], name: str, key: str) -> list[Any]:
    """Return the values of a column; DataError, in the name of `key`, where there is none of this name."""
    names = list(rows[0])
    if name not in names:
        hint = did_you_mean(name, names) or "Give one of them."
        got = Phrase(f"{name!r}, where {path.name} has {', '.join(names[:20])}")
        raise DataError.must(key, "the name of a column", got, hint)
    return [row.get(name) for row in rows]
