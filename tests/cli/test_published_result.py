"""result.json as outsiders rely on it (design, section 7), field by field, through the installed command."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import TINY, kd

TOP = {
    "format": int, "status": str, "command": str, "overrides": list, "seed": int, "dataset": str, "temperature": float,
    "soft_weight": float, "hard_weight": float, "gap_recovered": (float, type(None)), "stages": dict,
    "environment": dict,
}  # fmt: skip
STAGE = {"seconds": float, "cached": bool, "artifact": str}
ENVIRONMENT = {"device": str, "precision": str, "threads": int, "torch": str, "kd": str, "dataset_fingerprint": str}
MODEL = {
    "errors": int, "n": int, "accuracy": float, "nll": float, "ece": float, "params": int, "flops": int, "bytes": int,
    "latency_ms": dict, "artifact": str, "per_class": dict,
}  # fmt: skip


def has(content: dict[str, Any], contract: dict[str, Any]) -> None:
    for name, kind in contract.items():
        assert name in content, name
        assert isinstance(content[name], kind), name
        assert isinstance(content[name], bool) == (kind is bool), name


def published(folder: Path, *words: str, status: int = 0) -> dict[str, Any]:
    done = kd("distill", *words, cwd=folder)
    assert done.status == status, done.err
    (path,) = folder.glob("outputs/runs/*/result.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_published_fields_of_a_distilled_run(tmp_path: Path) -> None:
    content = published(tmp_path, *TINY, "seed=3")
    has(content, TOP)
    assert (content["format"], content["status"], content["command"]) == (1, "completed", "distill")
    assert (content["overrides"], content["seed"], content["dataset"]) == ([*TINY, "seed=3"], 3, "digits")
    assert (content["temperature"], content["soft_weight"], content["hard_weight"]) == (4.0, 0.9, 0.1)
    assert set(content["stages"]) == {"teacher", "soft_targets", "student", "baseline"}
    for stage in content["stages"].values():
        has(stage, STAGE)
    has(content["environment"], ENVIRONMENT)
    for role in ("teacher", "student", "baseline"):
        has(content[role], MODEL)
        assert set(content[role]["latency_ms"]) == {"1", "256"}
        for count in content[role]["per_class"].values():
            has(count, {"n": int, "errors": int})
    has(content["student"], {"agreement": float, "kl_to_teacher": float})
    teacher, student, baseline = (content[role]["errors"] for role in ("teacher", "student", "baseline"))
    expected = (baseline - student) / (baseline - teacher) if baseline > teacher else None
    assert content["gap_recovered"] == (expected if expected is None else pytest.approx(expected))


def test_the_published_fields_of_a_run_that_failed(tmp_path: Path) -> None:
    content = published(tmp_path, *TINY, "teacher.train.optimizer.lr=1e9", status=1)
    later = ("gap_recovered", "stages", "environment")
    has(content, {name: kind for name, kind in TOP.items() if name not in later} | {"error": str})
    assert (content["status"], content["error"][:20]) == ("failed", "The loss turned NaN ")
