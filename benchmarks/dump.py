"""Dumping a teacher's logits, as the stage does it and writes them, against a loop of forward passes alone.

    python benchmarks/dump.py [--repeats 5] [--threads 1]

Both use the same batch size, precision and memory format; random images of MNIST's and CIFAR's shapes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from table import Table
from torch import nn

from kd_cli.data.resident import Resident
from kd_cli.data.samples import Split
from kd_cli.data.spec import image_spec
from kd_cli.data.splits import whole
from kd_cli.device import hardware
from kd_cli.measure.flops import work_of
from kd_cli.measure.prediction import EVALUATION_BATCH, predictions
from kd_cli.models.cnn import cnn
from kd_cli.models.mlp import mlp
from kd_cli.models.resnet import resnet
from kd_cli.store.artifacts import Store
from kd_cli.targets.soft_targets import Storage, write_targets
from kd_cli.train.memory_format import LAYOUTS, chosen_memory_format

CPU = torch.device("cpu")


@torch.inference_mode()
def forward(teacher: nn.Module, split: Split) -> float:
    """Images a second of forward passes over batches that lie ready."""
    batches = [
        images.float() / 255 for images in split.samples.stream(torch.arange(len(split)).split(EVALUATION_BATCH), CPU)
    ]
    teacher.eval()
    started = time.perf_counter()
    for images in batches:
        teacher(images)
    return len(split) / (time.perf_counter() - started)


def dump(teacher: nn.Module, split: Split) -> float:
    """Images a second of a dump, from the stored bytes to the verified artifact."""
    with tempfile.TemporaryDirectory() as folder:

        def fill(where: Path) -> dict[str, object]:
            write_targets(where, lambda view: predictions(teacher, split, CPU), split, 1, Storage())
            return {}

        started = time.perf_counter()
        Store(Path(folder)).write("soft_targets", {}, fill)
        return len(split) / (time.perf_counter() - started)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    grey, colour = (1, 28, 28), (3, 32, 32)
    teachers: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
        "784-1200-1200-10": (partial(mlp, 10, grey, (1200, 1200)), grey, 60_000),
        "conv 32, conv 64, fc 128": (partial(cnn, 10, grey, (32, 64), (128,)), grey, 10_240),
        "ResNet-20": (partial(resnet, 100, colour, 20), colour, 2_560),
    }
    print(hardware(asked.threads))
    table = Table("Dump against forward passes alone", ["forward, images/s", "dump, images/s", "ratio", "spread"])
    for name, (build, shape, images) in teachers.items():
        split = whole(Resident(torch.randint(256, (images, *shape), dtype=torch.uint8)), torch.arange(images) % 10)
        teacher = build()
        convolutions = work_of(teacher, image_spec(shape)).convolutions
        teacher.to(memory_format=LAYOUTS[chosen_memory_format("auto", convolutions)])
        pairs = [(forward(teacher, split), dump(teacher, split)) for _ in range(asked.repeats + 1)][1:]
        ratios = [ours / bare for bare, ours in pairs]
        bare, ours = (statistics.median(part) for part in zip(*pairs, strict=True))
        spread = f"{min(ratios):.2f} … {max(ratios):.2f}"
        table.add(name, f"{bare:,.0f}", f"{ours:,.0f}", f"{statistics.median(ratios):.3f}", spread)
    print(table)


if __name__ == "__main__":
    main()
