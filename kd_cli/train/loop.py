"""The one training loop: epochs of steps, gone on from a checkpoint, watched, with the kernels that suit a step.

What a step does, what an epoch comes to and when there is no need of another is the `Training`'s own business.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from kd_cli.data.samples import Batch
from kd_cli.device import float32_kernels, threads_for
from kd_cli.train.batches import Batches
from kd_cli.train.checkpoint import Checkpoint
from kd_cli.train.state import State
from kd_cli.train.watch import Record, Watch, Watches


class Training(Protocol):
    """What is trained for at most so many `epochs`. `flops` are those of one step: threads and kernels follow from
    them. A checkpoint that was made under other `circumstances` (precision, layout in memory, …) is not gone on from.
    """

    epochs: int
    flops: float
    circumstances: dict[str, Any]

    @property
    def batches(self) -> Batches:
        """Return what the steps learn from."""
        ...

    @property
    def state(self) -> State[Any]:
        """Return all that the next step depends on."""
        ...

    def ended(self) -> bool:
        """Return whether no further epoch is to follow, though it would be one of `epochs`."""
        ...

    def begin(self) -> None:
        """Begin an epoch of which no step has been done."""
        ...

    def step(self, batch: Batch, epoch: int, step: int) -> None:
        """Learn from one batch; `epoch` and `step` are counted from 0, the step within its epoch."""
        ...

    def figures(self) -> Record:
        """Return what an epoch came to whose last step is done; TrainingError where no more can come of it."""
        ...


def train(training: Training, checkpoint: Checkpoint | None = None, watch: Watch | None = None) -> None:
    """Train to the end, from where the checkpoint has come to; `watch` is told of each step and each epoch."""
    state, batches, watch = training.state, training.batches, watch or Watches()

    def resumed(kernels: str) -> AbstractContextManager[Callable[[], None]]:
        if checkpoint is None:
            return nullcontext(lambda: None)
        return checkpoint.resumed(state, **training.circumstances, kernels=kernels)

    with (
        threads_for(training.flops),
        float32_kernels(batches.device, training.flops) as kernels,
        resumed(kernels) as keep,
    ):
        for epoch in range(state.epoch, training.epochs):
            if training.ended():
                break
            if state.step == 0:
                training.begin()
            for step, batch in enumerate(batches.epoch(epoch, state.step), state.step):
                training.step(batch, epoch, step)
                state.step = step + 1
                watch.step(epoch, step)
                keep()
            record = training.figures()
            state.epoch, state.step = epoch + 1, 0
            watch.epoch(record)
            keep()
