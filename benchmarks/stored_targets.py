"""Training from stored soft targets that are larger than the memory one would give them.

    python benchmarks/stored_targets.py [--samples 1281167] [--classes 1000] [--steps 2000] [--folder /tmp]

Writes a synthetic store of samples × classes float16 logits into a temporary folder, removes it at the end, and prints
how long opening takes, how far the process's own memory (RssAnon) grows while a small student gathers random batches of
128, and the step's time against logits that lie in memory. The first two are measured in a process whose data may not
exceed `--limit` (RLIMIT_DATA: all private writable memory; mapped files do not count).
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from table import own_memory
from torch import Tensor

from kd_cli.data.resident import Resident
from kd_cli.data.samples import Answer, Batch, Split
from kd_cli.models.mlp import mlp
from kd_cli.objectives.hinton import Hinton
from kd_cli.store.artifacts import Store, read_artifact
from kd_cli.targets.soft_targets import SoftTargets, Storage, write_targets

BATCH, BLOCK = 128, 4096
CPU = torch.device("cpu")


def make(folder: Path, samples: int, classes: int) -> Path:
    """The synthetic store; returns the artifact's folder."""
    index = torch.arange(samples)
    split = Split(Resident(torch.zeros(samples, 1, 1, 1, dtype=torch.uint8)), index, index)
    block = torch.randn(BLOCK, classes, generator=torch.Generator().manual_seed(0)) * 5

    def rows(view: int) -> Iterator[Tensor]:
        return (block[: min(BLOCK, samples - start)] for start in range(0, samples, BLOCK))

    def fill(folder: Path) -> dict[str, object]:
        write_targets(folder, rows, split, 1, Storage())
        return {}

    return Store(folder).write("soft_targets", {}, fill).folder


class Training:
    """A small student; one step is images, logits of the batch, loss, backward, update."""

    def __init__(self, samples: int, classes: int) -> None:
        torch.manual_seed(0)
        self.samples, self.student = samples, mlp(classes, (1, 16, 16), widths=[256])
        self.images = torch.rand(BATCH, 1, 16, 16)
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=0.1, momentum=0.9)
        self.objective, self.labels = Hinton(4.0, 1.0, 0.0), torch.full((BATCH,), -1)

    def step(self, targets: Callable[[Tensor, int, Tensor], Tensor]) -> float:
        """Seconds of one step on a random batch."""
        positions = torch.randint(self.samples, (BATCH,))
        started = time.perf_counter()
        batch = Batch(self.images, self.labels, Answer(targets(positions, 0, self.images)))
        self.optimizer.zero_grad()
        self.objective(Answer(self.student(batch.inputs)), batch)["loss"].backward()
        self.optimizer.step()
        return time.perf_counter() - started


def limited(folder: Path, samples: int, classes: int, steps: int, limit: float) -> None:
    """Opening and memory, in a process of limited memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 1e9),) * 2)
    training = Training(samples, classes)
    in_memory = torch.zeros(BLOCK, classes, dtype=torch.float16)
    for _ in range(20):
        training.step(lambda positions, view, images: in_memory[positions % BLOCK].float())
    before, started = own_memory(), time.perf_counter()
    targets = SoftTargets(read_artifact(folder), CPU)
    opened = time.perf_counter() - started
    for _ in range(steps):
        training.step(targets)
    print(f"opening: {opened * 1000:.2f} ms")
    print(f"own memory over {steps} steps: {own_memory() - before:+.1f} MB, with at most {limit} GB of data allowed")


def compared(folder: Path, samples: int, classes: int, steps: int) -> None:
    """Step time from the store and from memory, taken in turns."""
    training, stored = Training(samples, classes), SoftTargets(read_artifact(folder), CPU)
    resident = stored.views[0]["logits"].clone()

    def from_memory(positions: Tensor, view: int, images: Tensor) -> Tensor:
        return resident.index_select(0, positions).float()

    taken: dict[str, list[float]] = {"store": [], "memory": []}
    for step in range(2 * steps):
        name = ("store", "memory")[step % 2]
        taken[name].append(training.step(stored if name == "store" else from_memory))
    store, memory = (statistics.median(taken[name]) * 1000 for name in ("store", "memory"))
    more = store / memory - 1
    print(f"step, median of {steps}: {store:.3f} ms from the store, {memory:.3f} ms from memory: {more:+.1%}")


def main() -> None:
    """Makes the store, and measures each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_281_167)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--limit", type=float, default=1.5, help="GB of data that the training process may have")
    parser.add_argument("--folder", type=Path, help="where the store is made: a disk with room for it")
    parser.add_argument("--measure", choices=["limited", "compared"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = (given.samples, given.classes, given.steps)
    if given.measure == "limited":
        return limited(given.folder, *size, given.limit)
    if given.measure == "compared":
        return compared(given.folder, *size)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        store = make(Path(folder), given.samples, given.classes)
        print(f"{given.samples:,} × {given.classes} float16, {torch.get_num_threads()} thread(s)")
        options = ["--samples", "--classes", "--steps", "--limit"]
        values = [str(value) for value in (*size, given.limit)]
        words = [word for pair in zip(options, values, strict=True) for word in pair]
        for measure in ("limited", "compared"):
            command = [sys.executable, __file__, *words, "--folder", str(store), "--measure", measure]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
