"""Many epochs and many jobs in one process: memory, open files and threads must not grow.

`--size` epochs of a tiny student, then a sweep of a fifth as many jobs. Prints a Markdown line for each: what, resident
memory after the first tenth and at the end, open files, threads, seconds.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
from running import inside
from watching import Seen

from kd_cli.commands import distill
from kd_cli.datasets.digits import digits
from kd_cli.models.mlp import mlp
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.train import fit as engine
from kd_cli.train.schedules import constant

Sample = tuple[int, int, int]  # resident bytes, open files, threads


def sample() -> Sample:
    """What this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), threading.active_count()


def epochs(number: int, seed: int, took: Callable[[], None]) -> None:
    """Trains a tiny student for so many epochs; calls `took` after each."""
    torch.manual_seed(seed)
    dataset = digits()
    batches = engine.Batches(dataset.train, 128, seed, torch.device("cpu"))
    recipe = engine.Recipe(number, 128, lambda parameters: torch.optim.SGD(parameters, lr=0.01), constant)
    model = mlp(10, (1, 8, 8), widths=[8])
    engine.fit(model, batches, CrossEntropy(), recipe, watch=Seen(epoch=lambda record: took()))


def jobs(number: int, seed: int, took: Callable[[], None]) -> None:
    """Runs a sweep of so many jobs in this process; calls `took` as each begins."""
    begun = distill.main

    def main(*given: object) -> None:
        took()
        begun(*given)  # type: ignore[arg-type]

    distill.main = main
    try:
        with tempfile.TemporaryDirectory() as folder:
            seeds = ",".join(str(seed + k) for k in range(number))
            tiny = ("teacher.train.epochs=1", "student.train.epochs=1", "baseline=false", "student.model.widths=[8]")
            done = inside("sweep", f"seed={seeds}", *tiny, cwd=Path(folder))
            assert done.status == 0, done.err
    finally:
        distill.main = begun


def growth(run: Callable[[int, int, Callable[[], None]], None], number: int, seed: int) -> tuple[Sample, Sample]:
    """The samples after the first tenth and at the end."""
    taken: list[Sample] = []
    run(number, seed, lambda: taken.append(sample()))
    assert len(taken) == number, len(taken)
    return taken[number // 10], taken[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=300)
    asked = parser.parse_args()
    print("| what | resident memory, after a tenth → at the end | open files | threads | time |\n|---|---|---|---|---|")
    for name, run, number in (("epochs", epochs, asked.size), ("jobs of a sweep", jobs, asked.size // 5)):
        began = time.perf_counter()
        first, last = growth(run, number, asked.seed)
        print(f"| {number} {name} | {first[0] / 1e6:.0f} → {last[0] / 1e6:.0f} MB ({last[0] / first[0] - 1:+.1%}) | "
              f"{first[1]} → {last[1]} files | {first[2]} → {last[2]} threads | {time.perf_counter() - began:.0f} s |",
              flush=True)  # fmt: skip
        assert last[0] < 1.05 * first[0], "memory grew"
        assert last[1:] <= first[1:], "open files or threads grew"


if __name__ == "__main__":
    main()
