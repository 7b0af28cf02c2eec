"""How cost grows with the transfer set and the classes: writing targets, and steps of a small student on them.

    python benchmarks/growth.py [--largest 2e9]

Synthetic logits of N samples × C classes, stored, mapped and read back; cells above `largest` bytes are left out.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from table import Table, own_memory
from torch import Tensor

from kd_cli.data.resident import Resident
from kd_cli.data.splits import whole
from kd_cli.device import hardware
from kd_cli.models.mlp import mlp
from kd_cli.objectives.hinton import Hinton
from kd_cli.store.artifacts import Store
from kd_cli.targets.soft_targets import SoftTargets, Storage, write_targets
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import constant

CPU, BATCH, STEPS, SHAPE = torch.device("cpu"), 128, 200, (1, 4, 4)


def cell(samples: int, classes: int) -> tuple[float, float, float]:
    """Nanoseconds a logit for writing, microseconds a sample in training, and MB of memory that training took."""
    pixels = torch.zeros(samples, *SHAPE, dtype=torch.uint8)
    pixels.view(-1)[: min(pixels.numel(), 1 << 20)].random_(256)
    split = whole(Resident(pixels), torch.arange(samples) % classes)
    with tempfile.TemporaryDirectory() as folder:

        def rows(view: int) -> Iterator[Tensor]:
            block = torch.randn(4096, classes)
            return (block[: min(4096, samples - start)] for start in range(0, samples, 4096))

        def fill(where: Path) -> dict[str, object]:
            write_targets(where, rows, split, 1, Storage())
            return {"classes": classes, "temperatures": []}

        started = time.perf_counter()
        artifact = Store(Path(folder)).write("soft_targets", {"cell": [samples, classes]}, fill)
        writing = time.perf_counter() - started
        targets = SoftTargets(artifact, CPU)
        before = own_memory()
        part = split.select(torch.randperm(samples)[: BATCH * STEPS])  # rows from everywhere in the store

        def of_part(positions: Tensor, view: int, images: Tensor) -> Tensor:
            return targets(part.index[positions], view, images)

        batches = Batches(part, BATCH, 0, CPU, targets=of_part)
        recipe = Recipe(1, BATCH, partial(torch.optim.SGD, lr=0.01), constant, "32")
        student = mlp(classes, SHAPE, (32,))
        started = time.perf_counter()
        fit(student, batches, Hinton(4.0, 0.9, 0.1), recipe)
        training = time.perf_counter() - started
    return writing / (samples * classes) * 1e9, training / len(part) * 1e6, own_memory() - before


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=float, default=2e9)
    largest = parser.parse_args().largest
    torch.set_num_threads(1)
    print(hardware(1))
    columns = ["writing, ns a logit", "a training step, µs a sample", "… ns a logit", "memory of training, MB"]
    table = Table(f"student 16-32-C, batch {BATCH}, at most {STEPS} steps", columns)
    cell(10_000, 10)
    for samples in (10_000, 100_000, 1_000_000):
        for classes in (10, 100, 1_000, 10_000):
            if samples * classes * 2 <= largest:
                writing, training, memory = cell(samples, classes)
                per_logit = f"{training / classes * 1e3:.1f}"
                row = (f"{writing:.2f}", f"{training:.1f}", per_logit, f"{memory:.0f}")
                table.add(f"{samples:,} samples × {classes:,} classes", *row)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(table, f"\nLargest resident memory of the whole run, mapped files and the writing included: {peak:.1f} GB")


if __name__ == "__main__":
    main()
