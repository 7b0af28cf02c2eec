"""What kd's machinery costs a small student (64-32-10 on the digits): `fit` with progress, history and metrics, as the
student's stage calls it, against the same steps in a bare loop.

    python benchmarks/small_student.py [--repeats 9] [--epochs 20]
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from table import Table
from torch import Tensor
from torch.nn import functional as F

from kd_cli.data.samples import Split
from kd_cli.datasets.digits import digits
from kd_cli.device import hardware
from kd_cli.models.mlp import mlp
from kd_cli.objectives.hinton import Hinton
from kd_cli.progress import task
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import cosine
from kd_cli.train.watch import Bar, History, Watches

CPU, BATCH, TEMPERATURE = torch.device("cpu"), 64, 4.0
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def bare(split: Split, images: Tensor, logits: Tensor, epochs: int) -> float:
    """Seconds an epoch of the steps alone: gather, forward, the two losses, backward, fused SGD, cosine schedule."""
    student = mlp(10, (1, 8, 8), (32,))
    optimizer = SGD(student.parameters(), fused=True)
    schedule = cosine(optimizer, epochs, -(-len(split) // BATCH))
    started = time.perf_counter()
    for _ in range(epochs):
        for chosen in torch.randperm(len(split)).split(BATCH):
            z, v = student(images[chosen]), logits[chosen]
            soft = F.kl_div(
                F.log_softmax(z / TEMPERATURE, 1),
                F.log_softmax(v / TEMPERATURE, 1),
                reduction="batchmean",
                log_target=True,
            )
            loss = 0.9 * TEMPERATURE**2 * soft + 0.1 * F.cross_entropy(z, split.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return (time.perf_counter() - started) / epochs


def ours(split: Split, logits: Tensor, epochs: int) -> float:
    """Seconds an epoch of `fit`, everything that it does once included."""
    recipe = Recipe(epochs, BATCH, SGD, cosine)
    started = time.perf_counter()
    with TemporaryDirectory() as folder, task("student", "epoch", epochs) as progress:
        batches = Batches(split, BATCH, 0, CPU, targets=lambda positions, view, images: logits[positions])
        watch = Watches(History(Path(folder)), Bar(progress, len(batches)))
        fit(mlp(10, (1, 8, 8), (32,)), batches, Hinton(TEMPERATURE, 0.9, 0.1), recipe, watch=watch)
    return (time.perf_counter() - started) / epochs


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    split = digits().train
    images = next(split.samples.stream([torch.arange(len(split))], CPU)).float() / 255
    logits = torch.randn(len(split), 10)
    seen: dict[str, list[float]] = {"bare loop": [], "kd": []}
    for _ in range(asked.repeats + 1):
        seen["bare loop"].append(bare(split, images, logits, asked.epochs))
        seen["kd"].append(ours(split, logits, asked.epochs))
    print(hardware(1))
    table = Table(f"64-32-10 on the digits, batch {BATCH}", ["ms an epoch", "spread", "× bare loop"])
    for name, (_, *seconds) in seen.items():  # the first round warms up
        ratios = [a / b for a, b in zip(seconds, seen["bare loop"][1:], strict=True)]
        spread = f"{min(seconds) * 1e3:.2f} … {max(seconds) * 1e3:.2f}"
        table.add(name, f"{statistics.median(seconds) * 1e3:.2f}", spread, f"{statistics.median(ratios):.2f}")
    print(table)


if __name__ == "__main__":
    main()
