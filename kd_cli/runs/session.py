"""What the jobs of one process have in common."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")


class Session:
    """One command line, in the process that it was typed in or in a launcher's worker, which gets a copy without what
    is shared.

    `shares` says that this process runs the jobs of a sweep one after the other; `folder` is that sweep's; `fixed` are
    the overrides that all its jobs have in common; `jobs` are those that are complete or have had their turn, by the
    digest of their config; `population` are the plans of those whose students are still to be trained together; while
    `turn` is open, an equal sweep waits. `error` is why a single job, or a sweep before its first one, failed: Hydra
    would print a line of its own before it.
    """

    def __init__(self, fixed: tuple[str, ...] = ()) -> None:
        self.fixed = fixed
        self.folder: Path | None = None
        self.error: Exception | None = None
        self.jobs: dict[str, str] | None = None
        self.population: list[Any] = []
        self.turn = ExitStack()
        self._made: dict[str, Any] | None = None

    def __reduce__(self) -> tuple[type["Session"], tuple[tuple[str, ...]]]:
        return Session, (self.fixed,)

    @property
    def shares(self) -> bool:
        """Whether what one job makes serves the next."""
        return self._made is not None

    def share(self, shares: bool) -> None:
        """Begin a sweep's sharing, or end it and forget what was shared."""
        self._made = {} if shares else None

    def once(self, key: Any, make: Callable[[], Value]) -> Value:
        """Return what `make` gives; in a sweep, whose jobs run in one process, it is made once for each `key`."""
        if self._made is None:
            return make()
        name = json.dumps(key)
        if name not in self._made:
            self._made[name] = make()
        value: Value = self._made[name]
        return value


_open: ContextVar[Session] = ContextVar("session")


@contextmanager
def opened(session: Session) -> Iterator[Session]:
    """Make it the session that Hydra's callback finds, which Hydra builds itself from the config."""
    token = _open.set(session)
    try:
        yield session
    finally:
        _open.reset(token)


def current() -> Session:
    """Return the session that is open."""
    return _open.get()
