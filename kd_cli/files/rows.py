"""Tables that people have as files: CSV, TSV, JSON Lines and Parquet, read into rows."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_cli.errors import DataError, Phrase, first_line, reading
from kd_cli.extras import library

SEPARATORS = ",;\t|"
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LONGEST_FIELD = 1 << 24  # characters


@dataclass(frozen=True)
class Rows:
    """A table: the names of its columns, and each row's values, in the columns' order. A CSV's values are all text."""

    columns: list[str]
    rows: list[Sequence[Any]]

    def column(self, name: str) -> list[Any]:
        """Return the values of one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def read_rows(path: Path, key: str) -> Rows:
    """Return the table in a file, whose format its name's ending says. Raises DataError, in the name of `key` where it
    is no table, ConfigError where Parquet is not installed.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DataError.must(key, f"a table ({', '.join(ENDINGS)})", str(path))
    with reading(path):
        if not path.is_file():
            raise DataError.must(key, "a file", Phrase(f"{str(path)!r}, which is none"))
        if ending == ".parquet":
            return _parquet(path)
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    return _json_lines(path, text) if ending in (".jsonl", ".ndjson") else _separated(path, text, ending == ".tsv")


def _separated(path: Path, text: str, tabs: bool) -> Rows:
    """CSV as RFC 4180 has it, by whatever separator its first line has most of; in TSV a quote is a character as any
    other.
    """
    csv.field_size_limit(LONGEST_FIELD)
    separator = "\t" if tabs else max(SEPARATORS, key=text.partition("\n")[0].count)
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=separator,
            quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
            strict=True,
        )
        found = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path} is no table: line {reader.line_num}: {error}.") from error
    if not found:
        raise DataError(f"{path} holds no rows.")
    columns = found[0][1]
    for line, row in found:
        if len(row) != len(columns):
            raise DataError(f"{path} is no table: line {line} has {len(row)} cells, the first line {len(columns)}.")
    return Rows([name.strip() for name in columns], [row for _, row in found[1:]])


def _json_lines(path: Path, text: str) -> Rows:
    found: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is no JSON Lines: line {number}: {first_line(error)}.") from error
        if not isinstance(value, dict):
            raise DataError(f"{path} is no table: line {number} is no object, as {{…}} is.")
        found.append(value)
    if not found:
        raise DataError(f"{path} holds no rows.")
    columns = list(dict.fromkeys(name for row in found for name in row))
    return Rows(columns, [[row.get(name) for name in columns] for row in found])


def _parquet(path: Path) -> Rows:
    library("pyarrow", "text", "reading Parquet")
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        table = read_table(path)
    except ArrowException as error:
        raise DataError(f"{path} is no Parquet: {first_line(error)}.") from error
    columns = [column.to_pylist() for column in table.columns]
    return Rows(list(table.column_names), list(zip(*columns, strict=True)))
