"""What lies in an output folder: every artifact, what became of unfinished ones, and who refers to which.

Only folders that bear a name of kd's own count; whatever else lies beside them is somebody's.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kd_cli.errors import ArtifactError, KdError, first_line
from kd_cli.files import plain_file
from kd_cli.files.digests import id_of
from kd_cli.files.locks import FOLDER as LOCKS
from kd_cli.files.locks import alone
from kd_cli.store import run_folder
from kd_cli.store.artifacts import Artifact, read_artifact
from kd_cli.store.format import expect_format

KINDS = ("teachers", "soft_targets", "students")
OURS = re.compile(r"\.?[0-9a-f]{16}(\.partial)?(\.damaged-\d+)?")
ELSEWHERE = ".used_from_elsewhere"  # a file for each run outside that uses what is here
MOST_FOLDERS = 100_000


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
        paths = [Path(where, name) for where, _, names in os.walk(self.folder) for name in names]
        return sum(path.lstat().st_size for path in paths if not path.is_symlink())


@dataclass
class Inventory:
    """The folders of a store, sorted by name. `doubts` say where nobody could see which artifacts are used;
    `elsewhere` are the runs outside the output folder that are known to use some.
    """

    entries: list[Entry]
    elsewhere: set[str]
    doubts: list[str]

    def unused(self) -> list[Entry]:
        """Return what no run is known to refer to, not even through another artifact."""
        return self._without(self.elsewhere)

    def doubtful(self) -> list[Entry]:
        """Those to which no run in the output folder refers, but one outside does or one that cannot be read may."""
        unused, named = self.unused(), self._without(set())
        maybe = [entry for entry in unused if self.doubts and not _left_over(entry)]
        return [*(entry for entry in named if entry not in unused), *maybe]

    def _without(self, elsewhere: set[str]) -> list[Entry]:
        artifacts = {entry.name for entry in self.entries}
        roots = {user for entry in self.entries for user in entry.users if user not in artifacts}
        roots -= self.elsewhere - elsewhere
        used: set[str] = set()
        while more := {e.name for e in self.entries if e.name not in used and not roots.isdisjoint(e.users)}:
            used |= more
            roots |= more
        return [entry for entry in self.entries if entry.name not in used]


def inventory(root: Path) -> Inventory:
    """Return every folder of the store below `root`, and every user that can be found. No link is followed. Raise
    ArtifactError for an output folder that another kd wrote.
    """
    expect_format(root)
    entries, named, elsewhere, doubts = {}, {}, set(), []
    for kind in KINDS:
        for folder in sorted((root / kind).glob("*")) if not (root / kind).is_symlink() else []:
            if _is_ours(folder):
                entry, artifact = _entry(kind, folder)
                entries[entry.name] = entry
                named[entry.name] = artifact.manifest["deps"] if artifact else []
    for found in _runs(root):
        if isinstance(found, str):
            doubts.append(found)
            continue
        try:
            content = run_folder.content(found) or {}  # whichever kd wrote it
            named[found.relative_to(root).as_posix()] = list(_artifacts_in(content))
        except (ArtifactError, RecursionError) as error:
            doubts.append(first_line(error))
    for path in sorted((root / ELSEWHERE).glob("*.json")):
        try:
            content = json.loads(plain_file.read_plain(path, run_folder.LARGEST))
            named[str(content["run"])] = list(_artifacts_in(content))
            elsewhere.add(str(content["run"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            doubts.append(f"{path} is damaged ({first_line(error)}).")
    for user, names in named.items():
        for name in dict.fromkeys("/".join(Path(name).parts[-2:]) for name in names):
            if name in entries and name != user:
                entries[name].users.append(user)
    return Inventory(list(entries.values()), elsewhere, doubts)


def settled(root: Path) -> AbstractContextManager[None]:
    """While it is held, no run begins to use an artifact of this output folder, and nobody cleans up."""
    return alone(root, "artifacts", said="%s are being looked through by %s: waiting for it", patience=1)


def note_use(root: Path, run: Path, names: list[str]) -> None:
    """Leaves word in the output folder `root` that a run outside uses these of its artifacts."""
    path = root / ELSEWHERE / f"{id_of(str(run))}.json"
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise plain_file.unwritable(root, error) from error
    plain_file.write(path, json.dumps({"run": str(run), "artifacts": names}, indent=2) + "\n")


def _is_ours(folder: Path) -> bool:
    return bool(OURS.fullmatch(folder.name)) and folder.is_dir() and not folder.is_symlink()


def _left_over(entry: Entry) -> bool:
    """Whether it is none that a run could name: what was moved aside, or is not yet finished."""
    return "." in entry.folder.name


def _runs(root: Path) -> Iterator[Path | str]:
    """The folders with a result.json at any depth, or in words what could not be looked through."""
    waiting, seen = [root], 0
    while waiting:
        folder, seen = waiting.pop(), seen + 1
        if seen > MOST_FOLDERS:
            yield f"{root} holds more than {MOST_FOLDERS:,} folders: not all were looked through."
            return
        try:
            with os.scandir(folder) as listed:
                inside = sorted(listed, key=lambda each: each.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield f"{folder} cannot be looked through ({error.strerror})."
            continue
        for each in inside:
            path = Path(each.path)
            if each.name == run_folder.RESULT:
                yield folder
            elif each.is_symlink():
                inside_anyway = path.exists() and path.resolve().is_relative_to(root.resolve())
                if not (path.is_file() or inside_anyway or (folder.name in KINDS and folder.parent == root)):
                    yield f"{path} is a link: what lies behind it was not looked through."
            elif each.is_dir(follow_symlinks=False) and not _holds_no_run(path, root):
                waiting.append(path)


def _holds_no_run(folder: Path, root: Path) -> bool:
    if folder.parent.parent == root and folder.parent.name in KINDS:
        return bool(OURS.fullmatch(folder.name))
    return folder.name in (LOCKS, ELSEWHERE, ".hydra")


def _entry(kind: str, folder: Path) -> tuple[Entry, Artifact | None]:
    changed = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    if ".damaged-" in folder.name:
        return Entry(kind, folder, "damaged", "", changed), None
    if folder.name.startswith("."):
        return Entry(kind, folder, "unfinished", "", changed), None
    try:
        artifact = read_artifact(folder)
        about = artifact.manifest
        created, title, deps = datetime.fromisoformat(str(about["created"])), about["title"], about["deps"]
        if not isinstance(title, str) or not isinstance(deps, list) or not all(isinstance(dep, str) for dep in deps):
            raise TypeError("a title is a word, what it was made from are names")
        if not isinstance(about["identity"], dict) or not about["identity"]:
            raise TypeError("an identity is a mapping")
    except (KdError, ValueError, KeyError, TypeError, AttributeError):
        return Entry(kind, folder, "damaged", "", changed), None
    return Entry(kind, folder, "complete", title[:100], created if created.tzinfo else changed), artifact


def _artifacts_in(content: Any) -> Iterator[str]:
    """Every artifact that a run's result names, however the run ended."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "artifact" and isinstance(value, str):
                yield value
            elif key == "artifacts" and isinstance(value, list):
                yield from (name for name in value if isinstance(name, str))
            else:
                yield from _artifacts_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from _artifacts_in(value)
