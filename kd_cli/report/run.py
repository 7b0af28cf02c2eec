"""What a person is told at the end: one table, and one sentence that says whether distilling helped."""

import io
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from kd_cli.progress import console, tell
from kd_cli.screen import shown
from kd_cli.table import Sheet, surface

ROLES = ("teacher", "student", "corrected", "baseline")
ON_TEST = "chosen on the test set"
MOST_CLASSES = 10  # with a line of their own


def show(result: dict[str, Any], in_sweep: bool) -> None:
    """Prints table and sentence to standard error; in a sweep, which has a table of its own, the sentence alone."""
    if any(role in result for role in ROLES) and not in_sweep:
        console.print(table(result))
        if "covering" in result.get("teacher", {}):
            console.print(covering_table(result["teacher"]))
    if result.get("note"):
        tell(result["note"])
    if line := unsettled(result.get("stages", {})):
        tell(line)
    if "student" in result:
        tell(sentence(result))
    if "corrected" in result:
        tell(correction(result))


def table(result: dict[str, Any]) -> Sheet:
    """The models side by side, a column each; their errors on the classes that the transfer set's filters named."""
    environment = result["environment"]
    title = f"{environment['device']}, {environment['threads']} threads, precision {environment['precision']}"
    named, present = result.get("named_classes", [])[:MOST_CLASSES], [role for role in ROLES if role in result]
    columns = {_heading(role, result[role]): column(result[role], named) for role in present}
    if members := result.get("teacher", {}).get("members"):
        columns = {"member": _member(members, columns["teacher"])} | columns
    return _columns(title, columns)


def _heading(role: str, figures: dict[str, Any]) -> str:
    return f"{role} ({ON_TEST})" if figures.get("selected_on") == "test" else role


def _member(members: list[dict[str, Any]], headings: Iterable[str]) -> dict[str, str]:
    """The single member of an ensemble: mean ± standard deviation over its members."""
    cells = dict.fromkeys(headings, "–")
    forms = {
        "test errors": ("errors", ".1f"),
        "accuracy": ("accuracy", ".2%"),
        "NLL": ("nll", ".4f"),
        "ECE": ("ece", ".4f"),
    }
    for heading, (name, form) in forms.items():
        values = [float(member[name]) for member in members]
        spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
        cells[heading] = f"{statistics.mean(values):{form}}{spread}"
    return cells


def covering_table(teacher: dict[str, Any]) -> Sheet:
    """What the specialists gain over the generalist, by how many of them know the correct class."""
    title = "test errors by the number of specialists that know the correct class"
    everything = {"specialists": "all", "generalist_errors": teacher["generalist"]["errors"]}
    rows = []
    for row in (*teacher["covering"], teacher | everything):
        fewer = row["generalist_errors"] - row["errors"]
        rows.append([*(row[k] for k in ("specialists", "n", "generalist_errors", "errors")), f"{fewer:+d}"])
    return Sheet(title, ("specialists", "n", "generalist", "combined", "gain"), rows)


def _columns(title: str, columns: dict[str, dict[str, str]]) -> Sheet:
    rows = [[heading, *(cells[heading] for cells in columns.values())] for heading in next(iter(columns.values()))]
    return Sheet(title, ["", *columns], rows, left=("",))


def column(figures: dict[str, Any], named: Sequence[str] = ()) -> dict[str, str]:
    """One model's cells, with its errors on the classes `named`; a dash stands where nothing could be measured."""
    latency = figures.get("latency_ms") or {}
    missed = {name: figures["per_class"][name] for name in named}
    return {
        "test errors" if figures.get("split", "test") == "test" else "errors": f"{figures['errors']} of {figures['n']}",
        **{f"errors on {name}": f"{count['errors']} of {count['n']}" for name, count in missed.items()},
        "accuracy": f"{figures['accuracy']:.2%}",
        "NLL": f"{figures['nll']:.4f}",
        "ECE": f"{figures['ece']:.4f}",
        "agreement with the teacher": _optional(figures.get("agreement"), ".2%"),
        "parameters": _scaled(figures.get("params")),
        "FLOPs an image": _scaled(figures.get("flops")),
        "size": _scaled(figures.get("bytes"), "B"),
        "latency, batch 1": _optional(latency.get("1"), ".3g", " ms"),
        "latency, batch 256": _optional(latency.get("256"), ".3g", " ms"),
    }


def _optional(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


def sentence(result: dict[str, Any]) -> str:
    """How much of the gap was recovered and what the student saves, or that distilling did not help."""
    student, teacher = result["student"], result["teacher"]
    size = _saving(student, teacher)
    if "baseline" not in result:
        return f"Without a baseline (baseline=false) nobody can say whether distilling helped. {size}"
    baseline, gap = result["baseline"]["errors"], result["gap_recovered"]
    errors = (
        f"{student['errors']} errors, the same student without a teacher {baseline}, the teacher {teacher['errors']}"
    )
    if gap is None:
        verb = "better" if student["errors"] < baseline else "no better"
        return (
            f"There was no gap to recover: the teacher is not better than the baseline. The student makes {errors}; "
            f"it is {verb} than the baseline. {size}"
        )
    if student["errors"] >= baseline:
        return f"Distilling did not help: the student makes {errors}. {size}"
    return f"The student recovered {gap:.0%} of the gap: it makes {errors}. {size}"


def unsettled(stages: dict[str, Any]) -> str:
    """Whose batch statistics were not those of training, or are not to be trusted; nothing where all had settled."""
    about = {name.replace("_", " "): stage.get("batch_statistics") for name, stage in stages.items()}
    found = {name: of for name, of in about.items() if isinstance(of, dict)}
    anew = [name for name, of in found.items() if of.get("used") == "recomputed"]
    kept = [name for name, of in found.items() if of.get("used") != "recomputed" and of.get("settled") is False]
    lines = []
    if anew:
        lines.append(f"Batch statistics were taken anew from training images for: {', '.join(anew)}.")
    if kept:
        lines.append(
            f"Batch statistics had not settled, and the figures are worse than what was learnt, for: {', '.join(kept)}."
        )
    return " ".join(lines)


def correction(result: dict[str, Any]) -> str:
    """What another output bias changed, and whether it was chosen by looking at the test set."""
    corrected, student = result["corrected"], result["student"]
    said = f"With its output bias corrected ({corrected['rule']}) the student makes {corrected['errors']} errors"
    peeked = f"; that bias was {ON_TEST}" if corrected["selected_on"] == "test" else ""
    return f"{said} instead of {student['errors']}{peeked}."


def _saving(student: dict[str, Any], teacher: dict[str, Any]) -> str:
    if not teacher.get("params") or not all((teacher.get("latency_ms") or {"1": None}).values()):
        return ""
    size = teacher["params"] / student["params"]
    smaller = "as large as" if size == 1 else f"{_times(size, 'smaller', 'larger')} than"
    one, many = (_times(teacher["latency_ms"][k] / student["latency_ms"][k], "faster", "slower") for k in ("1", "256"))
    return f"It is {smaller} the teacher, {one} at batch 1 and {many} at batch 256."


def _times(ratio: float, more: str, less: str) -> str:
    word, ratio = (more, ratio) if ratio >= 1 else (less, 1 / ratio)
    return f"{ratio:,.0f} × {word}" if ratio >= 100 else f"{ratio:.2g} × {word}"


def _scaled(value: float | None, unit: str = "") -> str:
    if value is None:
        return "–"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value} {unit}".strip()


def print_figures(figures: dict[str, Any]) -> None:
    """One model's figures, and its errors in each class, on standard output."""
    drawn = _columns(figures["path"], {f"{figures['dataset']}, {figures['split']}": column(figures)})
    rows = [[name, count["errors"], count["n"]] for name, count in figures["per_class"].items()]
    classes = Sheet("errors in each class", ("class", "errors", "n"), rows, left=("class",))
    surface(sys.stdout).print(drawn, classes, sep="")


def show_sweep(
    folder: Path, jobs: list[dict[str, Any]], groups: list[dict[str, Any]], settings: list[str], answer: Console
) -> str:
    """Every job in one table, and in a second one mean ± std where several differ in their seed alone.

    Both are shown on `answer`; returns them as text.
    """
    tables = [_jobs_table(f"sweep {folder.name}", jobs, settings)]
    if any(group["n"] > 1 for group in groups):
        tables.append(_seeds_table(groups, settings))
    text = io.StringIO()
    for where in (answer, surface(text)):
        for drawn in tables:
            where.print(drawn)
    for job in jobs:
        if job["status"] != "completed":
            tell(f"{shown(job['job'])} {job['status']}: {shown(job.get('error', ''))}")
    names = ", ".join(str(folder / f"summary.{kind}") for kind in ("txt", "csv", "json"))
    tell(names)
    return text.getvalue()


def _jobs_table(title: str, jobs: list[dict[str, Any]], settings: list[str]) -> Sheet:
    seeds = dict.fromkeys(key for job in jobs for key in job if key.endswith("seed"))
    varied = [*settings, *(key for key in seeds if len({str(job.get(key)) for job in jobs}) > 1)] or ["job"]
    roles, rows = _shown(jobs), []
    for job in jobs:
        cells = [str(job.get(name, "")) for name in varied]
        if job["status"] == "completed":
            cells += [_optional(job.get(f"{role}_errors"), "d", _mark(job, role)) for role in roles]
            cells += [_optional(job.get("gap_recovered"), ".1%"), _optional(job.get("student_agreement"), ".2%")]
        else:
            cells.append(job["status"])
        rows.append(cells)
    headings = [*varied, *(f"{role} errors" for role in roles), "gap recovered", "agreement"]
    return Sheet(title, headings, rows, note=_footnote(jobs))


def _seeds_table(groups: list[dict[str, Any]], settings: list[str]) -> Sheet:
    title = "test errors over seeds: mean ± standard deviation [95 %: bootstrap of the gap, t of the difference]"
    roles, rows = _shown(groups), []
    for group in groups:
        cells = [*(str(group[name]) for name in settings), str(group["n"])]
        means = {role: _spread(group.get(f"{role}_errors_mean"), group.get(f"{role}_errors_std")) for role in roles}
        cells += [mean + _mark(group, role) for role, mean in means.items()]
        cells += [_interval(group.get("gap_recovered"), group.get("gap_interval"), ".0%")]
        cells += [_interval(group.get("fewer_errors"), group.get("fewer_errors_interval"), ".2f")]
        rows.append(cells)
    return Sheet(
        title, [*settings, "seeds", *roles, "gap recovered", "baseline − student"], rows, note=_footnote(groups)
    )


def _shown(rows: list[dict[str, Any]]) -> list[str]:
    """The models that have a column: a corrected student where any job was asked for one."""
    asked = any(key.startswith("corrected_") for row in rows for key in row)
    return [role for role in ROLES if asked or role != "corrected"]


def _mark(row: dict[str, Any], role: str) -> str:
    return "*" if row.get(f"{role}_selected_on") == "test" else ""


def _footnote(rows: list[dict[str, Any]]) -> str:
    return f"* output bias {ON_TEST}" if any(_mark(row, "corrected") for row in rows) else ""


def _spread(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.1f}" + ("" if std is None else f" ± {std:.1f}")


def _interval(value: float | None, interval: Any, form: str) -> str:
    if value is None:
        return "–"
    return f"{value:{form}}" + (f" [{interval[0]:{form}}, {interval[1]:{form}}]" if interval else "")
