"""What a person sees while something runs: bars on a terminal, plain lines elsewhere; all of it on standard error."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kd_cli.screen import Lines, prose, shown
from kd_cli.table import surface

console = surface()
log = logging.getLogger("kd")
LINES = 10  # of plain output for each stage
REDRAW_SECONDS = 0.1


class TerminalHandler(logging.Handler):
    """Log lines above the bars, without time and level: kd.log has those."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Lines())

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        console.print(self.format(record), soft_wrap=True)


def tell(text: str) -> None:
    """Prints on standard error, above the bars."""
    console.print(prose(text), soft_wrap=True)


class Task:
    """One stage's progress, counted in steps of one epoch or batch each."""

    def __init__(self, name: str, unit: str, total: int, progress: Progress | None) -> None:
        self.name, self.unit, self.total, self._progress = name, unit, total, progress
        self._id = progress.add_task(shown(name), total=total, detail="") if progress else None
        self._drawn = 0.0

    def move(self, done: float) -> None:
        """Redraws the bar, at most ten times a second."""
        if self._progress and self._id is not None and time.monotonic() - self._drawn > REDRAW_SECONDS:
            self._drawn = time.monotonic()
            self._progress.update(self._id, completed=done)

    def finish(self, done: int, figures: dict[str, float]) -> None:
        """One whole epoch or batch more, with its figures."""
        detail = "  ".join(
            f"{_label(name)} {_number(name, value)}" for name, value in figures.items() if name != "epoch"
        )
        if self._progress and self._id is not None:
            self._progress.update(self._id, completed=done, detail=shown(detail))
        elif done == self.total or done % max(1, self.total // LINES) == 0:
            log.info("%s: %s %d/%d  %s", self.name, self.unit, done, self.total, detail)


@contextmanager
def task(name: str, unit: str, total: int) -> Iterator[Task]:
    """Progress of a stage of `total` epochs or batches."""
    if not console.is_terminal:
        yield Task(name, unit, total, None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Task(name, unit, total, progress)


def _label(name: str) -> str:
    return {"train_accuracy": "train", "validation_accuracy": "validation", "samples_per_second": "samples/s"}.get(
        name, name
    )


def _number(name: str, value: float) -> str:
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:,.0f}" if name == "samples_per_second" else f"{value:.3g}"
