"""Results of runs as nobody ran them."""

import json
from pathlib import Path
from typing import Any


def model(errors: int, params: float = 1000, one: float = 1.0, many: float = 10.0, **more: Any) -> dict[str, Any]:
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
        **more,
    }


def result(teacher: int, student: int, baseline: int | None, gap: float | None) -> dict[str, Any]:
    made = {
        "teacher": model(teacher, params=50_000, one=3.0, many=25.0),
        "student": model(student, agreement=0.9876, kl_to_teacher=0.1),
        "gap_recovered": gap,
        "environment": {"device": "cpu", "threads": 2, "precision": "32"},
    }
    return made if baseline is None else made | {"baseline": model(baseline)}


def job(folder: Path, name: str, overrides: list[str], status: str = "completed", **fields: Any) -> None:
    (folder / name).mkdir(parents=True)
    made: dict[str, Any] = {"status": status, "command": "sweep", "overrides": overrides, "dataset": "digits"}
    values = dict(word.split("=") for word in overrides)
    made |= {"temperature": float(values.get("temperature", 4)), "seed": int(values.get("seed", 0))}
    made |= {"soft_weight": 0.9, "hard_weight": 0.1, **fields}
    (folder / name / "result.json").write_text(json.dumps(made))


def three(name: str, teacher: int, student: int, baseline: int) -> dict[str, Any]:
    return {
        "teacher": model(teacher, artifact="teachers/t"),
        "student": model(student, artifact=f"students/{name}", agreement=0.9),
        "baseline": model(baseline, artifact=f"students/b{name}"),
        "gap_recovered": (baseline - student) / (baseline - teacher),
    }
