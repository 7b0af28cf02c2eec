"""Images per second through a distillation epoch: the tutorial's loop, kd's `fit`, and the floor below it.

    python benchmarks/training.py [--threads 1] [--repeats 5] [--mnist <folder with the four files>]

The three are interleaved, `repeats` times; ratios are medians of the ratios within a repeat. Without --mnist the images
are random bytes of the same shape: the arithmetic is the same. As on a processor without AVX-512 and bf16, with

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 KD_HIDE_BF16=1

before the command.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms
from torchvision.models.resnet import BasicBlock

from kd_cli.data.resident import Resident
from kd_cli.data.samples import Split
from kd_cli.data.splits import whole
from kd_cli.device import SMALL_STEP, float32_kernels, hardware, native_bf16
from kd_cli.models.cnn import cnn
from kd_cli.models.mlp import mlp
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import constant

BATCH, SHAPE, CLASSES, MEAN, STD = 128, (1, 28, 28), 10, [0.1307], [0.3081]
CPU, COUNT = torch.device("cpu"), 25_600


class Pictures(TorchDataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: a PIL image a sample, transformed one by one."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels[:, 0].numpy(), labels.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[k])), self.labels[k]


def resnet18(width: int = 32) -> nn.Module:
    """ResNet-18 with a 3×3 stem, for small images."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for stage in range(4):
        outputs, stride = width * 2**stage, 2 if stage else 1
        short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        layers += [BasicBlock(inputs, outputs, stride, short if stage else None), BasicBlock(outputs, outputs)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))


def tutorial(teacher: nn.Module, student: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """As a user would write it: DataLoader, teacher in each step, temperature, two losses, SGD."""
    loader = DataLoader(Pictures(pixels, labels), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9)
    temperature, started = 4.0, time.perf_counter()
    teacher.eval(), student.train()
    for images, targets in loader:
        with torch.no_grad():
            soft = F.softmax(teacher(images) / temperature, dim=1)
        logits = student(images)
        loss = 0.9 * temperature**2 * F.kl_div(
            F.log_softmax(logits / temperature, dim=1), soft, reduction="batchmean"
        ) + 0.1 * F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return len(labels) / (time.perf_counter() - started)


def ours(student: nn.Module, split: Split, logits: Tensor, precision: str) -> float:
    """`fit`, as the student's stage calls it."""
    recipe = Recipe(1, BATCH, partial(torch.optim.SGD, lr=0.01, momentum=0.9), constant, precision)
    batches = Batches(split, BATCH, 0, CPU, targets=lambda positions, view, images: logits[positions])
    started = time.perf_counter()
    fit(student, batches, Hinton(4.0, 0.9, 0.1), recipe)
    return len(split) / (time.perf_counter() - started)


def floor(sizes: list[int], pixels: Tensor, dtype: torch.dtype) -> float:
    """The matrix products of a step (3 forward, 5 backward), its gather, and fused SGD on float32 weights; no more."""
    weights = [torch.randn(a, b) * 0.01 for a, b in pairwise(sizes)]
    params = [p.requires_grad_() for w in weights for p in (w, torch.zeros(w.shape[1]))]
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer = torch.optim.SGD(params, lr=0.01, momentum=0.9, fused=True)
    cast = [w.detach().to(dtype) for w in weights]
    data = (pixels.flatten(1).float() / 255).to(dtype)
    order = torch.randperm(len(data)).split(BATCH)
    started = time.perf_counter()
    with float32_kernels(CPU, SMALL_STEP), torch.no_grad():
        for positions in order:
            values = [data[positions]]
            for w in cast:
                values.append(values[-1] @ w)
            gradient = values[-1]
            for k in range(len(cast) - 1, -1, -1):
                values[k].t() @ gradient
                if k:
                    gradient = gradient @ cast[k].t()
            optimizer.step()
    return len(data) / (time.perf_counter() - started)


def load(folder: str | None) -> tuple[Tensor, Tensor]:
    """The first 25,600 images of MNIST, or as many random ones."""
    if folder:
        from kd_cli.datasets.mnist import mnist

        train = mnist(folder, download=False).train
        assert isinstance(train.samples, Resident)
        return train.samples.values[:COUNT], train.labels[:COUNT]
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8))
    return pixels, torch.from_numpy(random.integers(0, CLASSES, COUNT))


def main() -> None:
    """Prints one table for each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mnist")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    pixels, labels = load(asked.mnist)
    logits = torch.randn(len(labels), CLASSES, generator=torch.Generator().manual_seed(0))
    split = whole(Resident(pixels), labels)
    big = partial(mlp, CLASSES, SHAPE, (1200, 1200), mean=MEAN, std=STD)
    small = partial(mlp, CLASSES, SHAPE, (800, 800), mean=MEAN, std=STD)
    shallow = partial(cnn, CLASSES, SHAPE, (16, 32), (64,), mean=MEAN, std=STD)
    sizes = [784, 800, 800, CLASSES]
    few, fewer = (pixels[:6_400], labels[:6_400]), (pixels[:512], labels[:512])
    pairs: dict[str, dict[str, Callable[[], float]]] = {
        "MLP 784-1200-1200-10 → 784-800-800-10": {
            "tutorial loop": lambda: tutorial(big(), small(), *few),
            "kd, 32": lambda: ours(small(), split, logits, "32"),
            "floor, 32": lambda: floor(sizes, pixels, torch.float32),
            "kd, bf16-mixed": lambda: ours(small(), split, logits, "bf16-mixed"),
            "floor, bf16": lambda: floor(sizes, pixels, torch.bfloat16),
        },
        "ResNet-18 of base width 32 → conv 16, conv 32, fc 64": {
            "tutorial loop": lambda: tutorial(resnet18(), shallow(), *fewer),
            "kd, 32": lambda: ours(shallow(), split, logits, "32"),
            "kd, bf16-mixed": lambda: ours(shallow(), split, logits, "bf16-mixed"),
        },
    }
    if not native_bf16(CPU):  # it would be float32 once more
        pairs = {name: {way: run for way, run in ways.items() if "bf16" not in way} for name, ways in pairs.items()}
    print(hardware(asked.threads))
    for name, ways in pairs.items():
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(asked.repeats + 1):
            for way, run in ways.items():
                rates[way].append(run())
        table = Table(f"{name}, batch {BATCH}", ["images/s", "spread", "× tutorial loop", "of its floor"])
        for way, (_, *seen) in rates.items():  # the first round warms up
            against = [a / b for a, b in zip(seen, rates["tutorial loop"][1:], strict=True)]
            bound = rates.get(way.replace("kd", "floor").replace("-mixed", ""))
            share = [a / b for a, b in zip(seen, bound[1:], strict=True)] if bound and way.startswith("kd") else None
            table.add(
                way,
                f"{statistics.median(seen):,.0f}",
                f"{min(seen):,.0f} … {max(seen):,.0f}",
                f"{statistics.median(against):.2f}",
                f"{statistics.median(share):.2f}" if share else "",
            )
        print(table)


if __name__ == "__main__":
    main()
