"""A unit of work whose result is stored, and the one way in which such a result comes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from kd_cli.errors import ArtifactError
from kd_cli.files.digests import as_read, id_of
from kd_cli.progress import log
from kd_cli.store.artifacts import Artifact, Store, Use, read_artifact
from kd_cli.store.format import MANIFEST

NEAREST_AMONG = 200  # of the newest artifacts of a kind
PARTS_SHOWN = 5

Done = Callable[[Artifact, bool], None]


class Step(Protocol):
    """A teacher, a dump, a student: what determines it, what it is made from, how it is made and read."""

    @property
    def kind(self) -> str:
        """The folder of the store that holds its like: `teachers`."""

    @property
    def stage(self) -> str:
        """What the run calls it: `student`."""

    @property
    def title(self) -> str:
        """What it is, in a few words for a list."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that determines its result, in plain values."""

    @property
    def deps(self) -> Sequence[str]:
        """The artifacts that it is made from, as `teachers/<id>`."""

    @property
    def largest(self) -> int:
        """The most bytes of tensors that its result has."""

    def make(self, folder: Path, ends: ExitStack) -> dict[str, Any]:
        """Write the result's files into `folder`, which may hold what an earlier attempt left; return what the manifest
        is to say of the circumstances. What is entered into `ends` is left once the artifact stands.
        """

    def load(self, artifact: Artifact) -> None:
        """Take the result in; raise ArtifactError where it cannot serve, though it be as it was written."""


class Record(Protocol):
    """Where it is written down which artifact each step gave."""

    def stage(self, name: str) -> AbstractContextManager[Done]:
        """Time a step; the caller says which artifact it gave, and whether that was there already."""


def obtain(step: Step, store: Store, record: Record) -> Artifact:
    """Return a step's artifact: found in the store, verified and loaded, or else made, stored and loaded."""
    with record.stage(step.stage) as done:
        artifact = find(step, store)
        cached = artifact is not None
        if artifact is None:
            if why := difference(step, store):
                log.info("%s: made anew, %s", step.stage.replace("_", " "), why)
            artifact = make(step, store)
        done(artifact, cached)
    return artifact


def find(step: Step, store: Store) -> Artifact | None:
    """Return a step's artifact, verified and loaded, or None."""
    return store.find(step.kind, step.identity, Use(step.largest, step.load))


def make(step: Step, store: Store) -> Artifact:
    """Make a step's artifact, whether or not there is one like it."""
    with ExitStack() as ends:
        use = Use(step.largest, step.load)
        return store.write(
            step.kind, step.identity, lambda folder: {**manifest_notes(step), **step.make(folder, ends)}, use
        )


def manifest_notes(step: Step) -> dict[str, Any]:
    """Return what a manifest says of a step besides its identity."""
    return {"title": step.title, "deps": list(step.deps)}


def name_of(step: Step) -> str:
    """Return a step's artifact as a run names it: `teachers/<id>`."""
    return f"{step.kind}/{id_of(step.identity)}"


def difference(step: Step, store: Store) -> str:
    """Say which parts of a step's identity the nearest stored one has otherwise; "" where there is none like it."""
    wanted = dict(_parts(as_read(step.identity)))
    best: tuple[str, list[str]] | None = None
    for artifact in islice(_stored(store.root / step.kind), NEAREST_AMONG):
        identity = artifact.manifest.get("identity")
        if not isinstance(identity, Mapping) or identity.get("stage") != step.identity.get("stage"):
            continue
        found = dict(_parts(identity))
        other = [key for key in {**wanted, **found} if wanted.get(key, _ABSENT) != found.get(key, _ABSENT)]
        if best is None or len(other) < len(best[1]):
            shown = [f"{key} ({_word(found, key)}, now {_word(wanted, key)})" for key in other[:PARTS_SHOWN]]
            more = [f"{len(other) - PARTS_SHOWN} more"] if len(other) > PARTS_SHOWN else []
            best = f"{step.kind}/{artifact.folder.name} differs in {', '.join(shown + more)}", other
    return best[0] if best and best[1] else ""


_ABSENT = object()


def _stored(kind: Path) -> Iterator[Artifact]:
    """The artifacts of a kind, the newest first."""
    with suppress(OSError):
        folders = [path for path in kind.iterdir() if (path / MANIFEST).is_file() and not path.name.startswith(".")]
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True):
            with suppress(ArtifactError):
                yield read_artifact(folder)


def _parts(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree of plain values, by their dotted keys."""
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _parts(each, key if name == "config" else f"{key}.{name}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        for number, each in enumerate(value):
            yield from _parts(each, f"{key}.{number}")
    else:
        yield key, value


def _word(parts: Mapping[str, Any], key: str) -> str:
    text = str(parts[key]) if key in parts else "absent"
    return text if len(text) <= 40 else f"{text[:12]}…"
