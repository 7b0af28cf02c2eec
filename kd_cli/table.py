"""Tables that lose nothing: what does not fit a screen becomes a list, and no cell is cut."""

import os
import re
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from kd_cli.screen import shown

UNBOUNDED = 10_000  # columns: a file or a pipe has no width of its own


def surface(file: TextIO | None = None) -> Console:
    """Return where tables and bars are drawn: on this stream, or on standard error. Rich reads no markup in values."""
    console = Console(file=file, stderr=file is None, markup=False, emoji=False, highlight=False)
    told = file in (None, sys.stdout) and os.environ.get("COLUMNS", "").isdigit()
    if not console.is_terminal and not told:
        console.width = UNBOUNDED
    return console


@dataclass(frozen=True)
class Sheet:
    """A title, headings and rows of cells, ready for `Console.print`; rows may be shorter than the headings.

    `left`: the columns that are not aligned to the right.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    left: Container[str] = ()
    note: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as it is, or with its headings broken, or the list of its rows: the first that fits."""
        headings = [shown(heading) for heading in self.headings]
        rows = [[*map(shown, row), *[""] * (len(headings) - len(row))] for row in self.rows]
        yield Text(shown(self.title), "italic")
        for lines in (headings, [_broken(heading) for heading in headings]):
            columns = zip(lines, *rows, strict=True)
            widths = [max(map(cell_len, [*heading.split("\n"), *cells])) for heading, *cells in columns]
            if sum(widths) + 3 * len(widths) + 1 <= options.max_width:
                yield self._table(lines, rows)
                break
        else:
            yield from _list(headings, rows)
        if self.note:
            yield Text(shown(self.note), "italic")

    def _table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
        drawn = Table()
        for heading, name in zip(headings, self.headings, strict=True):
            drawn.add_column(Text(heading), justify="left" if name in self.left else "right", no_wrap=True)
        for cells in rows:
            drawn.add_row(*map(Text, cells))
        return drawn


def _broken(heading: str) -> str:
    """A heading in as many lines as it has words and parts of a key."""
    return re.sub(r"(?<=[.@_/])(?=\w)| ", "\n", heading)


def _list(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderResult:
    width = max(map(cell_len, headings))
    for number, cells in enumerate(rows):
        if number:
            yield Text("")
        for heading, cell in zip(headings, cells, strict=True):
            yield Text(f"{heading}{' ' * (width - cell_len(heading))}  {cell}" if heading else cell)
