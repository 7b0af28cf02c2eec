"""The teachers that a teacher is made of, as its config names them. Never imports torch."""

from collections.abc import Mapping
from typing import Any

from kd_cli.errors import must


def members(teacher: Mapping[Any, Any]) -> list[str]:
    """Return the keys below `teacher` of the teachers that it is made of."""
    if owns_its_keys("teacher", teacher):
        return []
    several = teacher.get("members") or {}
    if not isinstance(several, Mapping) or not all(isinstance(name, str) and name for name in several):
        hint = "Write 'teacher.members=[mlp_1200,cnn]', or /teacher@members.<name>: <choice> in the defaults of a YAML."
        raise must("teacher.members", "a mapping of names to teachers", several, hint)
    return [f"members.{name}" for name in several] or [key for key in ("member", "generalist") if key in teacher]


def owns_its_keys(path: str, node: Mapping[Any, Any]) -> bool:
    """Return whether it is a teacher of somebody else's, whose keys mean what he says: `model`, `seed`, `members` are
    his.
    """
    return path.startswith("teacher") and not str(node.get("_target_", "kd_cli.")).startswith("kd_cli.")
