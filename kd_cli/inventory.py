"""What lies in an output folder: every artifact, what became of unfinished ones, and who refers to which."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kd_cli.artifacts import Artifact, read_artifact
from kd_cli.digests import digest_of
from kd_cli.errors import ArtifactError

KINDS = ("teachers", "soft_targets", "students")


@dataclass
class Entry:
    """A folder of the store. `state` is complete, unfinished or damaged; `users` are runs and artifacts, by name."""

    kind: str
    folder: Path
    state: str
    title: str
    created: datetime
    users: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As result.json names it: `teachers/<id>`."""
        return f"{self.kind}/{self.folder.name}"

    @property
    def bytes(self) -> int:
        """The size of its files; links count as nothing."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return sum(path.stat().st_size for path in files)


def inventory(root: Path) -> list[Entry]:
    """Every folder of the store below `root`, sorted by name. Links are passed over."""
    entries, named = {}, {}
    for kind in KINDS:
        for folder in sorted((root / kind).glob("*")) if not (root / kind).is_symlink() else []:
            if folder.is_symlink() or not folder.is_dir():
                continue
            entry, artifact = _entry(kind, folder)
            entries[entry.name] = entry
            named[entry.name] = _names_of(artifact) if artifact else []
    for result in sorted([*root.glob("runs/*/result.json"), *root.glob("sweeps/*/*/result.json")]):
        named[result.parent.relative_to(root).as_posix()] = _names_in(result)
    for user, names in named.items():
        for name in dict.fromkeys(names):
            if name in entries and name != user:
                entries[name].users.append(user)
    return list(entries.values())


def unused(entries: list[Entry]) -> list[Entry]:
    """What no run refers to, not even through another artifact: with everything unfinished or damaged."""
    whole = [entry for entry in entries if entry.state == "complete"]
    artifacts = {entry.name for entry in entries}
    used: set[str] = set()
    while more := {
        e.name for e in whole if e.name not in used and any(u in used or u not in artifacts for u in e.users)
    }:
        used |= more
    return [entry for entry in entries if entry.name not in used]


def _entry(kind: str, folder: Path) -> tuple[Entry, Artifact | None]:
    changed = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    if folder.name.startswith("."):
        return Entry(kind, folder, "unfinished", "", changed), None
    if ".damaged-" in folder.name:
        return Entry(kind, folder, "damaged", "", changed), None
    try:
        artifact = read_artifact(folder)
        created = datetime.fromisoformat(str(artifact.manifest["created"]))
        title = _title(artifact.manifest)[:100]
    except (ArtifactError, ValueError, KeyError, TypeError, AttributeError):
        return Entry(kind, folder, "damaged", "", changed), None
    return Entry(kind, folder, "complete", title, created if created.tzinfo else changed), artifact


def _title(manifest: dict[str, Any]) -> str:
    """The network and the number of its classes, or the form of stored logits."""
    identity = manifest["identity"]
    if not isinstance(identity, dict):
        raise TypeError("an identity is a mapping")
    if manifest["kind"] == "soft_targets":
        return f"{manifest['samples']:,} samples × {manifest['views']} views × {manifest['classes']} classes"
    target = str(identity["model"]["config"]["_target_"]).rpartition(".")[2]
    objective = identity.get("objective", "cross-entropy")
    how = objective if isinstance(objective, str) else str(objective["config"]["_target_"]).rpartition(".")[2]
    corrected = f", bias by {identity['bias_correction']['rule']}" if "bias_correction" in identity else ""
    return f"{target}, {len(identity['classes'])} classes, {how}{corrected}"


def _names_of(artifact: Artifact) -> list[str]:
    """What an artifact was made from: a student's soft targets, their teacher."""
    identity = artifact.manifest["identity"]
    targets = identity.get("targets")
    whole = targets if isinstance(targets, dict) else {}
    members = whole.get("members")  # an ensemble's, each with its own
    several = [whole, *(members if isinstance(members, list) else [])]
    stored = [each["stored"] for each in several if isinstance(each, dict) and each.get("stored")]
    return [*(f"soft_targets/{digest_of(each)[:16]}" for each in stored), str(artifact.manifest.get("teacher", ""))]


def _names_in(result: Path) -> list[str]:
    """Every artifact that a run's result names, however the run ended."""
    try:
        content = json.loads(result.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return list(_artifacts_in(content))


def _artifacts_in(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "artifact" and isinstance(value, str):
                yield value
            else:
                yield from _artifacts_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from _artifacts_in(value)
