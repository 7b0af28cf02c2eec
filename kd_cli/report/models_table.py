"""The table of a run: its models side by side, and what a teacher is made of."""

import statistics
import sys
from collections.abc import Iterable, Sequence

from kd_cli.measure.figures import Covering, Figures, MemberFigures
from kd_cli.runs.result import Result
from kd_cli.table import Sheet, surface

ON_TEST = "chosen on the test set"
MOST_CLASSES = 10  # with a line of their own


def table(result: Result) -> Sheet:
    """Return the models, a column each, with their errors on the classes that the transfer set's filters named."""
    title, where = "", result.environment
    if where is not None:
        title = f"{where.device}, {where.threads} threads, precision {where.precision}"
    named = result.named_classes[:MOST_CLASSES]
    columns = {_heading(role, figures): column(figures, named) for role, figures in result.figures.items()}
    if result.teacher is None and result.student is not None:  # it was not judged
        columns = {"teacher": dict.fromkeys(next(iter(columns.values())), "–")} | columns
    if result.teacher is not None and result.teacher.members:
        columns = {"member": _member(result.teacher.members, columns["teacher"])} | columns
    return _columns(title, columns)


def covering_table(teacher: Figures, covering: list[Covering], generalist_errors: int) -> Sheet:
    """Return what the specialists gain over the generalist, by how many of them know the correct class."""
    title = "test errors by the number of specialists that know the correct class"
    counts = [(str(row.specialists), row.n, row.generalist_errors, row.errors) for row in covering]
    counts.append(("all", teacher.n, generalist_errors, teacher.errors))
    rows = [[*row, f"{row[2] - row[3]:+d}"] for row in counts]
    return Sheet(title, ("specialists", "n", "generalist", "combined", "gain"), rows)


def print_figures(figures: Figures, path: str, dataset: str, split: str) -> None:
    """Print a model's figures on one split, and its errors in each class, on standard output."""
    drawn = _columns(path, {f"{dataset}, {split}": column(figures, split=split)})
    rows = [[name, count.errors, count.n] for name, count in figures.per_class.items()]
    classes = Sheet("errors in each class", ("class", "errors", "n"), rows, left=("class",))
    surface(sys.stdout).print(drawn, classes, sep="")


def column(figures: Figures, named: Sequence[str] = (), split: str = "test") -> dict[str, str]:
    """Return a model's cells, with its errors on the classes `named`; a dash stands where nothing could be measured."""
    latency = figures.latency_ms or {}
    missed = {name: figures.per_class[name] for name in named if name in figures.per_class}
    return {
        "test errors" if split == "test" else "errors": f"{figures.errors} of {figures.n}",
        **{f"errors on {name}": f"{count.errors} of {count.n}" for name, count in missed.items()},
        **_sounds(figures),
        "accuracy": f"{figures.accuracy:.2%}",
        "NLL": optional(figures.nll, ".4f"),
        "ECE": optional(figures.ece, ".4f"),
        "agreement with the teacher": optional(figures.agreement, ".2%"),
        "parameters": _scaled(figures.params),
        "FLOPs a sample": _scaled(figures.flops),
        "size": _scaled(figures.bytes, "B"),
        "latency, batch 1": optional(latency.get("1"), ".3g", " ms"),
        "latency, batch 256": optional(latency.get("256"), ".3g", " ms"),
    }


def _sounds(figures: Figures) -> dict[str, str]:
    if figures.sound_errors is None:
        return {}
    return {"sounds wrong, by their frames' votes": f"{figures.sound_errors} of {figures.sounds}"}


def optional(value: float | None, form: str, unit: str = "") -> str:
    """Return a cell: the value in this form, or a dash."""
    return "–" if value is None else f"{value:{form}}{unit}"


def _heading(role: str, figures: Figures) -> str:
    return f"{role} ({ON_TEST})" if figures.selected_on == "test" else role


def _member(members: list[MemberFigures], headings: Iterable[str]) -> dict[str, str]:
    """The single member of an ensemble: mean ± standard deviation over its members."""
    cells = dict.fromkeys(headings, "–")
    cells["test errors"] = _spread([member.errors for member in members], ".1f")
    if known := [member.sound_errors for member in members if member.sound_errors is not None]:
        cells["sounds wrong, by their frames' votes"] = _spread(known, ".1f")
    cells["accuracy"] = _spread([member.accuracy for member in members], ".2%")
    cells["NLL"] = _spread([member.nll for member in members], ".4f")
    cells["ECE"] = _spread([member.ece for member in members], ".4f")
    return cells


def _spread(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {statistics.stdev(known):{form}}" if len(known) > 1 else ""
    return f"{statistics.mean(known):{form}}{spread}"


def _columns(title: str, columns: dict[str, dict[str, str]]) -> Sheet:
    rows = [[heading, *(cells[heading] for cells in columns.values())] for heading in next(iter(columns.values()))]
    return Sheet(title, ["", *columns], rows, left=("",))


def _scaled(value: float | None, unit: str = "") -> str:
    if value is None:
        return "–"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value} {unit}".strip()
