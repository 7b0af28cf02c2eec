"""The words of a small ensemble."""

from typing import Any

SHORT = ("student.train.epochs=1", "baseline=false")
MEMBER = ("model@teacher.member.model=mlp_30", "teacher.member.train.epochs=1")
TEACHER = ("teacher=ensemble", "teacher.size=2", *MEMBER)
WORDS = (*TEACHER, *SHORT)


def made(result: dict[str, Any]) -> set[str]:
    """The stages that were not found in the store."""
    return {name for name, stage in result["stages"].items() if not stage["cached"]}
