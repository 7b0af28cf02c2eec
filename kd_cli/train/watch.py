"""What is told of a training while it runs: the history, the bar, a tracker are each a `Watch`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kd_cli.files.disk import written
from kd_cli.progress import Task
from kd_cli.store.history import HISTORY

Record = dict[str, float]  # what an epoch came to: epoch, lr, each loss term, accuracies, samples_per_second


class Watch(Protocol):
    """Whoever is told of each step and each epoch of a training, once it is done."""

    def step(self, epoch: int, step: int) -> None:
        """Take note of a step; both are counted from 0, the step within its epoch."""
        ...

    def epoch(self, record: Record) -> None:
        """Take note of an epoch's figures."""
        ...


class Watches:
    """Several watches as one, told in this order; without any, nobody is."""

    def __init__(self, *watches: Watch) -> None:
        self._watches: Sequence[Watch] = watches

    def step(self, epoch: int, step: int) -> None:
        """Tell each of a step."""
        for watch in self._watches:
            watch.step(epoch, step)

    def epoch(self, record: Record) -> None:
        """Tell each of an epoch."""
        for watch in self._watches:
            watch.epoch(record)


class History:
    """Writes history.jsonl in the folder of an artifact, a line an epoch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def step(self, epoch: int, step: int) -> None:
        """Nothing: a history is of epochs."""

    def epoch(self, record: Record) -> None:
        """Append the figures as a line of JSON."""
        with written(self._folder), (self._folder / HISTORY).open("a", encoding="utf-8") as history:
            history.write(json.dumps(record) + "\n")


class Bar:
    """Moves the progress of a training whose epochs have so many `steps`."""

    def __init__(self, task: Task, steps: int) -> None:
        self._task, self._steps = task, steps

    def step(self, epoch: int, step: int) -> None:
        """Redraw, at most ten times a second."""
        self._task.move(epoch + (step + 1) / self._steps)

    def epoch(self, record: Record) -> None:
        """Show the figures of the epoch."""
        self._task.finish(int(record["epoch"]), record)
