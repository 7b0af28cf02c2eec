"""`kd sweep`: what its jobs found, as one table and as summary.txt, .csv and .json, made from the jobs' files alone."""

import csv
import json
import re
import statistics
from pathlib import Path
from typing import Any

from kd_cli import metrics
from kd_cli.report import ROLES, show_sweep

FIGURES = ("errors", "accuracy", "nll", "ece", "agreement", "artifact")


def summarize(folder: Path) -> bool:
    """Writes and shows the summary of a sweep's folder; False if any job failed."""
    jobs = [_job(path) for path in sorted(folder.glob("*/result.json"), key=_natural)]
    if not jobs:
        return True
    jobs = _distinct(jobs)
    settings = _settings(jobs)
    groups = _groups(jobs)
    summary = {"jobs": jobs, "settings": settings, "groups": groups}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    with (folder / "summary.csv").open("w", newline="") as file:
        columns = list(dict.fromkeys(key for job in jobs for key in job))
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(jobs)
    show_sweep(folder, jobs, groups, settings)
    return all(job["status"] == "completed" for job in jobs)


def _natural(path: Path) -> list[Any]:
    """Sorts `seed-10` after `seed-9`."""
    return [float(part) if k % 2 else part for k, part in enumerate(re.split(r"(\d+(?:\.\d+)?)", path.parent.name))]


def _job(path: Path) -> dict[str, Any]:
    """One row: the job's folder, what it varied, and its figures."""
    result = json.loads(path.read_text())
    row: dict[str, Any] = {"job": path.parent.name, "status": result["status"]}
    row |= dict(word.lstrip("+").partition("=")[::2] for word in result["overrides"])
    for key in ("dataset", "temperature", "soft_weight", "hard_weight", "seed"):
        row[key] = result.get(key)
    for role in ROLES:
        for figure in FIGURES:
            if figure in result.get(role, {}):
                row[f"{role}_{figure}"] = result[role][figure]
    row["gap_recovered"] = result.get("gap_recovered")
    if "error" in result:
        row["error"] = str(result["error"]).splitlines()[0]
    return row


def _distinct(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Jobs that made the same three models count once, whatever their folders are called."""
    seen: dict[Any, dict[str, Any]] = {}
    for job in jobs:
        models = tuple(job.get(f"{role}_artifact") for role in ROLES)
        seen.setdefault(models if any(models) else job["job"], job)
    return list(seen.values())


def _settings(jobs: list[dict[str, Any]]) -> list[str]:
    """The overrides in which the jobs differ, seeds left out."""
    figures = {f"{role}_{figure}" for role in ROLES for figure in FIGURES}
    other = {
        "job",
        "status",
        "error",
        "gap_recovered",
        "seed",
        "teacher.seed",
        "transfer.seed",
        "dataset.seed",
    } | figures
    keys = dict.fromkeys(key for job in jobs for key in job if key not in other)
    return [key for key in keys if len({str(job.get(key)) for job in jobs}) > 1]


def _groups(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Jobs that differ in their seed alone, put together: mean ± sample standard deviation, and the gap over seeds."""
    settings = _settings(jobs)
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for job in jobs:
        if job["status"] == "completed":
            groups.setdefault(tuple(str(job.get(key)) for key in settings), []).append(job)
    rows = []
    for values, members in groups.items():
        row: dict[str, Any] = {**dict(zip(settings, values, strict=True)), "n": len(members)}
        for role in ROLES:
            if all(f"{role}_errors" in member for member in members):
                errors = [member[f"{role}_errors"] for member in members]
                row[f"{role}_errors_mean"] = statistics.mean(errors)
                row[f"{role}_errors_std"] = statistics.stdev(errors) if len(errors) > 1 else None
        if all(f"{role}_errors" in member for member in members for role in ROLES):
            teacher, student, baseline = ([int(member[f"{role}_errors"]) for member in members] for role in ROLES)
            row["gap_recovered"] = metrics.gap_recovered(teacher, student, baseline)
            row["gap_interval"] = metrics.gap_interval(teacher, student, baseline)
            if len(members) > 1:
                row |= _paired(baseline, student)
        rows.append(row)
    return rows


def _paired(baseline: list[int], student: list[int]) -> dict[str, Any]:
    """Mean of baseline − student errors over seeds, with the 95 % interval of Student's t."""
    from scipy.stats import t

    differences = [b - s for b, s in zip(baseline, student, strict=True)]
    mean = statistics.mean(differences)
    half = t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    return {"fewer_errors": mean, "fewer_errors_interval": [mean - half, mean + half]}
