"""Signals to end: who is told, who waits for what is being written down, and who is not to notice."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

# Ctrl-C; a scheduler's; Slurm's warning, which Windows does not know
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Process:
    """What this process is at: `struck` is the signal that ended it, `working` says that a job runs in it, `launched`
    that a launcher gives it one job after the other.
    """

    struck: int | None = None
    working, launched = False, False


def listen() -> None:
    """Takes every signal to end from now on as `_strike` does."""
    for number in SIGNALS:
        signal.signal(number, _strike)


def _strike(number: int, frame: Any) -> None:
    """Raises KeyboardInterrupt(number), once: `timeout` and schedulers send their signals twice.

    Whoever waits for a launcher's workers hands it on to them, and waits until each has written down where it stands:
    the launcher would kill them at once. Whoever presses Ctrl-C twice does not wait.
    """
    again, Process.struck = Process.struck is not None, Process.struck or number
    impatient = again and number == signal.SIGINT
    if Process.launched and not Process.working:  # the next job will not begin
        return
    pool = None if Process.working else sys.modules.get("multiprocessing")  # nobody else has imported it
    workers = pool.active_children() if pool else []
    for worker in workers:
        worker.terminate()
    if impatient or not (again or workers):
        raise KeyboardInterrupt(number)


@contextmanager
def job(launched: bool) -> Iterator[None]:
    """While a job runs here, which a launcher may have handed over: such a process then listens, and remembers."""
    if launched and not Process.launched and threading.current_thread() is threading.main_thread():
        Process.launched = True
        listen()
    Process.working = True
    try:
        yield
    except KeyboardInterrupt as stop:
        if launched:
            Process.struck = Process.struck or (stop.args[0] if stop.args else signal.SIGINT)
        raise
    finally:
        Process.working = False


class Hold:
    """While it is entered a signal to end waits, in `struck`; at the end it is raised as KeyboardInterrupt(number).

    It may be entered again within itself. Whoever presses Ctrl-C twice does not wait.
    """

    def __init__(self) -> None:
        self.struck: int | None = None
        self._depth, self._before = 0, {}  # type: int, dict[int, Any]

    def __enter__(self) -> Self:
        if self._depth == 0 and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._strike) for number in SIGNALS}
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.struck is not None and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(self.struck) from error

    def _strike(self, number: int, frame: Any) -> None:
        if self.struck is not None and number == signal.SIGINT:
            raise KeyboardInterrupt(number)
        self.struck = self.struck or number
