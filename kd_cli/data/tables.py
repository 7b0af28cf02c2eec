"""Rows of named values from the files that people have: CSV, TSV, JSON lines and Parquet."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd_cli.errors import DataError, Phrase, did_you_mean, first_line, reading
from kd_cli.extras import library

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LONGEST_FIELD = 1 << 24  # characters
Row = dict[str, Any]


def is_table(path: Path) -> bool:
    """Return whether a file is a table by its name."""
    return path.suffix.lower() in SUFFIXES


def rows_of(path: Path) -> list[Row]:
    """Return every row of a file as column → value; DataError where it is damaged, or holds none."""
    kind = path.suffix.lower()
    with reading(path):
        try:
            rows = _parquet(path) if kind == ".parquet" else _text(path, kind)
        except (UnicodeDecodeError, UnicodeError) as error:
            raise DataError(f"{path} is not UTF-8 ({first_line(error)}). Save it as UTF-8.") from error
    if not rows:
        raise DataError(f"{path} holds no rows.")
    return rows


def _text(path: Path, kind: str) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(_lines(path, file) if kind in (".jsonl", ".ndjson") else _separated(path, file, kind))


def column_of(path: Path, rows: list[Row], name: str, key: str) -> list[Any]:
    """Return the values of a column; DataError, in the name of `key`, where there is none of this name."""
    names = list(rows[0])
    if name not in names:
        hint = did_you_mean(name, names) or "Give one of them."
        got = Phrase(f"{name!r}, where {path.name} has {', '.join(names[:20])}")
        raise DataError.must(key, "the name of a column", got, hint)
    return [row.get(name) for row in rows]


def _separated(path: Path, file: Any, kind: str) -> Iterator[Row]:
    """CSV as RFC 4180 has it; in TSV a quote is a character as any other."""
    csv.field_size_limit(LONGEST_FIELD)
    tabs: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == ".tsv" else {"strict": True}
    reader = csv.reader(file, **tabs)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header) or not all(header):
            raise DataError(f"{path} must begin with a line of different names for its columns, got {header[:20]}.")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                found = f"{len(values)} values where its first line names {len(header)}"
                raise DataError(f"{path}, line {reader.line_num}: {found}. Quote what holds a separator.")
            yield dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}.") from error


def _lines(path: Path, file: Any) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: no JSON ({first_line(error)}).") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: no JSON object but {line.strip()[:60]!r}.")
        yield row


def _parquet(path: Path) -> list[Row]:
    parquet = library("pyarrow.parquet", "text", "a Parquet file")
    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except OSError:
        raise
    except Exception as error:  # pyarrow's own errors derive from ValueError and others
        raise DataError(f"{path} is no Parquet file that can be read ({first_line(error)}).") from error
    return rows
