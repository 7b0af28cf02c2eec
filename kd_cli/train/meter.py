"""What an epoch amounts to: means over its samples."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kd_cli.data.samples import UNLABELLED, Batch


class Meter:
    """Means over the samples of an epoch. What the steps give is kept as it is and summed in blocks, on its device:
    a step of a small network takes little more than the dozen small operations that a sum would cost it.
    """

    BLOCK = 1 << 18  # logits kept before they are counted

    def __init__(self) -> None:
        self.started, self.seen, self._kept = time.perf_counter(), 0, 0
        self._steps: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
        self._sums: dict[str, Tensor | float] = {}
        self._right: Tensor | int = 0
        self._labelled: Tensor | int = 0

    def add(self, batch: Batch, logits: Tensor, terms: dict[str, Tensor]) -> None:
        """Count one batch, by its number of samples: the last one may be smaller."""
        self._steps.append((batch.labels, logits, terms))
        self._kept += logits.numel()
        if self._kept > self.BLOCK:
            self._sum()

    def _sum(self) -> None:
        if not self._steps:
            return
        labels, logits, terms = zip(*self._steps, strict=True)
        sizes = [len(part) for part in labels]
        weights = torch.tensor(sizes, dtype=torch.float32, device=logits[0].device)
        for name in terms[0]:
            total = torch.stack([step[name] for step in terms]).float() @ weights
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        truth = torch.cat(labels)
        self._right = self._right + (torch.cat(logits).argmax(1) == truth).sum()
        self._labelled = self._labelled + (truth != UNLABELLED).sum()
        self.seen += sum(sizes)
        self._steps, self._kept = [], 0

    def pack(self) -> dict[str, Any]:
        """Return where the epoch stands, as plain values."""
        self._sum()
        return {
            "sums": {name: float(total) for name, total in self._sums.items()},
            "right": int(self._right),
            "labelled": int(self._labelled),
            "seen": self.seen,
            "seconds": time.perf_counter() - self.started,
        }

    def restore(self, plain: dict[str, Any]) -> None:
        """Undo `pack`; raise ValueError and the like, and change nothing, for what no epoch can have been."""
        counted = plain["right"], plain["labelled"], plain["seen"]
        if not all(type(count) is int for count in counted) or not 0 <= counted[0] <= counted[1] <= counted[2]:
            raise ValueError(f"it has counted {counted}")
        if not all(type(number) is float for number in (plain["seconds"], *plain["sums"].values())):
            raise TypeError("its sums are no numbers")
        if plain["seen"] and "loss" not in plain["sums"]:
            raise ValueError("it has no loss")
        self._sums, self.seen = dict(plain["sums"]), plain["seen"]
        self._right, self._labelled = plain["right"], plain["labelled"]
        self.started = time.perf_counter() - plain["seconds"]

    def figures(self, total: Callable[[Tensor], Tensor] = lambda counted: counted) -> dict[str, float]:
        """Return each loss term, the accuracy on the labelled samples, and samples/s; `total` sums what several
        processes have counted.
        """
        self._sum()
        own = [*map(float, self._sums.values()), int(self._right), int(self._labelled), self.seen]
        *sums, right, labelled, seen = total(torch.tensor(own, dtype=torch.float64)).tolist()
        means = {name: value / seen for name, value in zip(self._sums, sums, strict=True)}
        accuracy = {"train_accuracy": right / labelled} if labelled else {}
        return {**means, **accuracy, "samples_per_second": seen / (time.perf_counter() - self.started)}
