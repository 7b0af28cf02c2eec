"""The tables of a sweep: a row for each job, and one for those that differ in their seed alone."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from kd_cli.progress import tell
from kd_cli.report.models_table import ON_TEST, optional
from kd_cli.runs.result import ROLES
from kd_cli.screen import shown
from kd_cli.table import Sheet, surface


def show_sweep(
    folder: Path, jobs: list[dict[str, Any]], groups: list[dict[str, Any]], settings: list[str], answer: Console
) -> str:
    """Show every job in one table, and in a second one mean ± std where several differ in their seed alone.

    Both are shown on `answer`; return them as text.
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
            cells += [optional(job.get(f"{role}_errors"), "d", _mark(job, role)) for role in roles]
            cells += [optional(job.get("gap_recovered"), ".1%"), optional(job.get("student_agreement"), ".2%")]
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
