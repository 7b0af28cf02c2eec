"""What the jobs of a sweep found, as one table and as summary.txt, .csv and .json, made from the jobs' files alone.

Never imports torch.
"""

import io
import json
import os
import re
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console

from kd_cli.errors import ArtifactError
from kd_cli.files import plain_file
from kd_cli.measure.gap import gap_interval, gap_recovered
from kd_cli.progress import console
from kd_cli.report.sweep_table import show_sweep
from kd_cli.runs.result import ROLES, Result
from kd_cli.screen import write_csv
from kd_cli.store.run_folder import RESULT, OtherFormatError

FIGURES = ("errors", "sound_errors", "accuracy", "train_accuracy", "nll", "ece", "agreement", "artifact", "selected_on")
COMPARED = ("teacher", "student", "baseline")  # in the gap


def jobs_of(folder: Path) -> list[Path]:
    """Return the folders of a sweep's jobs, `seed-10` after `seed-9`."""
    return sorted({path.parent for file in (RESULT, ".hydra") for path in folder.glob(f"*/{file}")}, key=_natural)


def summarize(folder: Path, where: Console = console) -> bool:
    """Show the summary of a sweep's folder, and write it there; return False if any job did not complete.

    Raises ConfigError where it cannot be written, and OtherFormatError where a job is another kd's: the summary that
    lies there may be whole, and is left alone.
    """
    jobs = [_job(path) for path in jobs_of(folder)]
    jobs = _distinct(jobs)
    settings = _settings(jobs)
    groups = _groups(jobs)
    summary = {"jobs": jobs, "settings": settings, "groups": groups}
    rows = io.StringIO(newline=os.linesep)
    write_csv(rows, list(dict.fromkeys(key for job in jobs for key in job)), jobs)
    text = show_sweep(folder, jobs, groups, settings, where)
    written = {"json": json.dumps(summary, indent=2) + "\n", "csv": rows.getvalue(), "txt": text}
    for kind, content in written.items():
        plain_file.write(folder / f"summary.{kind}", content)
    return all(job["status"] == "completed" for job in jobs)


def _natural(path: Path) -> list[Any]:
    """Sorts `seed-10` after `seed-9`."""
    return [float(part) if k % 2 else part for k, part in enumerate(re.split(r"(\d+(?:\.\d+)?)", path.name))]


def _job(folder: Path) -> dict[str, Any]:
    """One row: the job's folder, what it varied, and its figures; or that its result is missing or damaged. Raises
    OtherFormatError where another kd wrote it.
    """
    name = _writable(folder.name)
    try:
        result = Result.read(folder)
        if result is None:
            return {"job": name, "status": "missing", "error": f"it has no {RESULT}"}
        return _row(name, result)
    except OtherFormatError:
        raise
    except ArtifactError as error:
        return {"job": name, "status": "damaged", "error": _writable(str(error))}
    except UnicodeError as error:
        what = f"{folder / RESULT} is no result of kd ({error})."
        return {"job": name, "status": "damaged", "error": _writable(what)}


def _writable(text: str) -> str:
    """What is no text in UTF-8, as a folder's name may be, is replaced."""
    return text.encode(errors="replace").decode()


def _row(name: str, result: Result) -> dict[str, Any]:
    """The cells of a job, by the column. Raises UnicodeError for text that cannot be written."""
    first, content = {"job": name, "status": result.status}, result.to_json()
    row: dict[str, Any] = first | dict(word.lstrip("+").partition("=")[::2] for word in result.overrides) | first
    row |= {key: content[key] for key in ("dataset", "temperature", "soft_weight", "hard_weight", "seed")}
    for role in result.figures:
        known = content[role]
        row |= {f"{role}_{figure}": known[figure] for figure in FIGURES if figure in known}
    if result.teacher is not None and result.teacher.members:
        row["member_errors"] = statistics.mean(float(member.errors) for member in result.teacher.members)
    row["gap_recovered"] = result.gap_recovered
    row["config"] = result.config
    row["dataset_fingerprint"] = result.environment.dataset_fingerprint if result.environment else None
    if result.error is not None:
        row["error"] = (result.error.splitlines() or [""])[0][:500]
    for key, value in row.items():
        f"{key} {value}".encode()
    return row


def _distinct(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Equal jobs, and those that judged the same models on the same data, count once, whatever they are called."""
    seen: dict[Any, dict[str, Any]] = {}
    for job in jobs:
        models = tuple(job.get(f"{role}_artifact") for role in ROLES)
        judged = (*models, job.get("dataset_fingerprint"))
        seen.setdefault(judged if any(models) else job.get("config") or job["job"], job)
    return list(seen.values())


def _settings(jobs: list[dict[str, Any]]) -> list[str]:
    """The overrides in which the jobs differ, seeds (every key that ends so) left out."""
    figures = {f"{role}_{figure}" for role in ROLES for figure in FIGURES}
    other = {
        "job",
        "status",
        "error",
        "config",
        "dataset_fingerprint",
        "member_errors",
        "gap_recovered",
    } | figures
    keys = dict.fromkeys(key for job in jobs for key in job if key not in other and not key.endswith("seed"))
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
            if f"{role}_selected_on" in members[0]:
                row[f"{role}_selected_on"] = members[0][f"{role}_selected_on"]
        if all(f"{role}_errors" in member for member in members for role in COMPARED):
            teacher, student, baseline = ([int(member[f"{role}_errors"]) for member in members] for role in COMPARED)
            row["gap_recovered"] = gap_recovered(teacher, student, baseline)
            row["gap_interval"] = gap_interval(teacher, student, baseline)
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
