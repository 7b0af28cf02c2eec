"""Results of runs as nobody ran them."""

import json
from pathlib import Path
from typing import Any

from kd_cli.runs.result import Result

ENVIRONMENT = {"device": "cpu", "threads": 2, "precision": "32", "torch": "2", "kd": "1", "dataset_fingerprint": "f"}


def model(
    errors: int, params: float | None = 1000, one: float = 1.0, many: float = 10.0, **more: Any
) -> dict[str, Any]:
    return {
        "errors": errors,
        "n": 500,
        "accuracy": 1 - errors / 500,
        "nll": 0.125,
        "ece": 0.01,
        "params": params,
        "flops": 2_500_000,
        "bytes": 4000,
        "latency_ms": {"1": one, "256": many},
        "per_class": {},
        "artifact": None,
        **more,
    }


def content(overrides: list[str], status: str = "completed", **fields: Any) -> dict[str, Any]:
    """What result.json holds."""
    values = dict(word.split("=") for word in overrides)
    asked = {"format": 1, "status": status, "command": "sweep", "overrides": overrides, "dataset": "digits"}
    typed = {"temperature": float(values.get("temperature", 4)), "seed": int(values.get("seed", 0))}
    return {**asked, **typed, "soft_weight": 0.9, "hard_weight": 0.1, "config": None, **fields}


def result(teacher: int, student: int, baseline: int | None, gap: float | None, /, **fields: Any) -> Result:
    made = {
        "teacher": model(teacher, params=50_000, one=3.0, many=25.0),
        "student": model(student, agreement=0.9876, kl_to_teacher=0.1),
        "gap_recovered": gap,
        "environment": ENVIRONMENT,
    }
    made = made if baseline is None else made | {"baseline": model(baseline)}
    return Result.of(content([], **made | fields))


def job(folder: Path, name: str, overrides: list[str], **fields: Any) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "result.json").write_text(json.dumps(content(overrides, **fields)))


def three(name: str, teacher: int, student: int, baseline: int) -> dict[str, Any]:
    return {
        "teacher": model(teacher, artifact="teachers/t"),
        "student": model(student, artifact=f"students/{name}", agreement=0.9),
        "baseline": model(baseline, artifact=f"students/b{name}"),
        "gap_recovered": (baseline - student) / (baseline - teacher),
    }
