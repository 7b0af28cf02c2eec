"""Augmented batches per second on one core: kd's batched augmentations, and the per-sample pipeline of torchvision.

    python benchmarks/augmentation.py [--repeats 9]

Both make the same thing out of random images 3×32×32: float32 batches of 128 in [0, 1]; the mixtures are of cropped
(padding 4) and mirrored images. They are interleaved; the ratio is the median of the ratios within a repeat, with its
range.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2

from kd_cli.data.augment import Affine, Augment, ResizedCrop, Shift
from kd_cli.data.mixing import CutMix, Mix, Mixup
from kd_cli.data.resident import Resident
from kd_cli.data.splits import whole
from kd_cli.data.views import show

BATCH, BATCHES, SIDE = 128, 8, 32
CPU = torch.device("cpu")
CROP = [transforms.RandomCrop(SIDE, padding=4), transforms.RandomHorizontalFlip()]
AFFINE = transforms.RandomAffine(15, (0.1, 0.1), (0.9, 1.1), interpolation=transforms.InterpolationMode.BILINEAR)
PIPELINES: list[tuple[str, Augment | Mix, list[Callable], Callable | None]] = [
    ("crop and flip", Shift(4, flip=True), CROP, None),
    (
        "resized crop and flip",
        ResizedCrop((0.25, 1.0)),
        [transforms.RandomResizedCrop(SIDE, (0.25, 1.0)), transforms.RandomHorizontalFlip()],
        None,
    ),
    ("affine", Affine(15, 0.1, (0.9, 1.1)), [AFFINE], None),
    ("mixup of crop and flip", Mixup(1.0, Shift(4, flip=True)), CROP, v2.MixUp(num_classes=10)),
    ("cutmix of crop and flip", CutMix(1.0, Shift(4, flip=True)), CROP, v2.CutMix(num_classes=10)),
]


def batched(pixels: Tensor, labels: Tensor, augment: Augment | Mix, view: int) -> float:
    """Seconds a batch with kd."""
    split = whole(Resident(pixels), labels)
    started = time.perf_counter()
    order = torch.randperm(len(split)).split(BATCH)
    for shown in show(split, order, CPU, augment, 0, view):
        shown.stored.float().div_(255)
    return (time.perf_counter() - started) / BATCHES


def single(pixels: Tensor, labels: Tensor, chain: list[Callable], mix: Callable | None) -> float:
    """Seconds a batch, sample by sample, as torchvision's data sets do it."""
    transform, stored = transforms.Compose([*chain, transforms.ToTensor()]), pixels.permute(0, 2, 3, 1).numpy()
    started = time.perf_counter()
    for order in torch.randperm(len(pixels)).split(BATCH):
        images = torch.stack([transform(Image.fromarray(stored[k])) for k in order.tolist()])
        if mix is not None:
            mix(images, labels[order])
    return (time.perf_counter() - started) / BATCHES


def main() -> None:
    """Prints one row a pipeline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    pixels = torch.randint(256, (BATCH * BATCHES, 3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.randint(10, (len(pixels),))
    print(f"torch {torch.__version__}, one thread, {repeats} repeats of {BATCHES} batches of {BATCH}\n")
    print("| | torchvision, ms a batch | kd, ms a batch | ratio [range] |\n|---|---|---|---|")
    for name, augment, chain, mix in PIPELINES:
        batched(pixels, labels, augment, 0), single(pixels, labels, chain, mix)  # caches filled
        pairs = [(single(pixels, labels, chain, mix), batched(pixels, labels, augment, k)) for k in range(repeats)]
        theirs, ours = (statistics.median(part) * 1000 for part in zip(*pairs, strict=True))
        ratios = [a / b for a, b in pairs]
        spread = f"{statistics.median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}]"
        print(f"| {name} | {theirs:.2f} | {ours:.2f} | {spread} |")


if __name__ == "__main__":
    main()
