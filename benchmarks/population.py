"""Eight students trained together (`hydra/launcher=population`) against the same eight one after the other.

    python benchmarks/population.py [--threads 1] [--repeats 5] [--mnist <folder with the four files>]

Widths: 64-32-10 on digits, 784-128-128-10 and 784-800-800-10 on MNIST's shapes. Four temperatures by two seeds, and
eight seeds, of which no two see the same batch. As in a sweep, stacks are as large as gain from it: 8 of width 32, 4 of
width 128, and students of width 800 are trained alone. Both ways are interleaved, `repeats` times after a round to warm
up; ratios are those within a repeat. Without --mnist the images are random bytes of the same shape.
"""

import argparse
import statistics
import time
from functools import partial

import torch
from torch import Tensor

from kd_cli.data.resident import Resident
from kd_cli.data.samples import Split
from kd_cli.data.splits import whole
from kd_cli.datasets.digits import digits
from kd_cli.datasets.mnist import mnist
from kd_cli.models.mlp import mlp
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit
from kd_cli.train.population import Member, capacity, fit_population
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import cosine

CPU = torch.device("cpu")
SWEEPS = {
    "4 temperatures × 2 seeds": [(temperature, seed) for temperature in (1.0, 2.0, 4.0, 8.0) for seed in (0, 1)],
    "8 seeds": [(4.0, seed) for seed in range(8)],
}
WIDTHS = {32: (64, 10, 0), 128: (128, 1, 5_120), 800: (128, 1, 1_280)}  # batch size, epochs, images of MNIST


def members(split: Split, shape: tuple[int, int, int], widths: list[int], sweep: str, precision: str) -> list[Member]:
    """The students of a sweep, untrained. Their teacher's logits are random."""
    logits = torch.randn(len(split), 10, generator=torch.Generator().manual_seed(0))
    batch, epochs, _ = WIDTHS[widths[0]]

    def targets(positions: Tensor, view: int, images: Tensor) -> Tensor:
        return logits[positions]

    made = []
    for temperature, seed in SWEEPS[sweep]:
        torch.manual_seed(seed)
        optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.0003)
        recipe = Recipe(epochs, batch, optimizer, cosine, precision, clip=1.0)
        batches = Batches(split, batch, seed, CPU, targets=targets)
        made.append(Member(mlp(10, shape, widths), batches, Hinton(temperature, 0.9, 0.1), recipe))
    return made


def seconds(population: list[Member], together: bool) -> float:
    """How long their training takes."""
    size = (capacity(population[0].model, CPU) or len(population)) if together else 1
    started = time.perf_counter()
    for first in range(0, len(population), size):
        stack = population[first : first + size]
        if size > 1:
            fit_population(stack)
        else:
            fit(stack[0].model, stack[0].batches, stack[0].objective, stack[0].recipe)
    return time.perf_counter() - started


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mnist")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.mnist:
        images = mnist(asked.mnist, download=False).train
    else:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (60_000, 1, 28, 28), dtype=torch.uint8, generator=generator)
        images = whole(Resident(pixels), torch.randint(10, (60_000,), generator=generator))
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {asked.threads} thread(s)\n")
    print("| width | precision | sweep | one after the other | together | times as fast | spread |")
    print("|---|---|---|---|---|---|---|")
    for width, (_, _, count) in WIDTHS.items():
        split = images.select(torch.arange(count)) if count else digits().train
        shape, widths = ((1, 28, 28), [width, width]) if count else ((1, 8, 8), [width])
        for precision in ("32", "bf16-mixed"):
            for sweep in SWEEPS:
                times: list[tuple[float, float]] = []
                for _ in range(asked.repeats + 1):
                    pair = [seconds(members(split, shape, widths, sweep, precision), way) for way in (False, True)]
                    times.append((pair[0], pair[1]))
                ratios = [alone / together for alone, together in times[1:]]
                alone, together = (statistics.median(column) for column in zip(*times[1:], strict=True))
                cells = (f"{alone:.2f} s", f"{together:.2f} s", f"{statistics.median(ratios):.2f}")
                print(
                    f"| {width} | {precision} | {sweep} | {' | '.join(cells)} | {min(ratios):.2f} … {max(ratios):.2f} |"
                )


if __name__ == "__main__":
    main()
