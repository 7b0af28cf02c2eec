"""What an epoch amounts to for each member of a population."""

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kd_cli.data.samples import UNLABELLED, Batch


class Tally:
    """Each member's means over the samples of an epoch, kept on the device until they are asked for; whether its loss
    has stayed a number, and its fewest errors on the validation split, since the training began.
    """

    def __init__(self, members: int, device: torch.device) -> None:
        self.members, self.device = members, device
        self.sane, self.fewest = [True] * members, [math.inf] * members
        self.begin([math.nan] * members)

    def begin(self, rates: list[float]) -> None:
        """Begin an epoch, whose first step has these learning rates."""
        self.started, self.seen, self.rates = time.perf_counter(), 0, rates
        self.sums: dict[str, Tensor] = {}
        self.right, self.labelled = torch.zeros(2, self.members, dtype=torch.int64, device=self.device)

    def pack(self) -> dict[str, Any]:
        """Return where the epoch stands, as plain values."""
        return {
            "sums": {name: total.tolist() for name, total in self.sums.items()},
            "right": self.right.tolist(),
            "labelled": self.labelled.tolist(),
            "seen": self.seen,
            "seconds": time.perf_counter() - self.started,
            "rates": self.rates,
            "sane": self.sane,
            "fewest": self.fewest,
        }

    def restore(self, plain: dict[str, Any]) -> None:
        """Undo `pack`; raise ValueError and the like, and change nothing, for what it cannot be."""
        right, labelled, rates, sane, fewest = (plain[key] for key in ("right", "labelled", "rates", "sane", "fewest"))
        of_members = [right, labelled, rates, sane, fewest, *plain["sums"].values()]
        if not all(type(values) is list and len(values) == self.members for values in of_members):
            raise ValueError("it is of other members")
        if type(plain["seen"]) is not int or not all(type(one) is bool for one in sane):
            raise TypeError("it has counted nothing")
        if plain["seen"] and "loss" not in plain["sums"]:
            raise ValueError("it has no loss")
        started = time.perf_counter() - float(plain["seconds"])
        sums = {name: torch.tensor(values, dtype=torch.float32) for name, values in plain["sums"].items()}
        counts = torch.tensor([right, labelled], dtype=torch.int64)
        fewest, rates = [float(value) for value in fewest], [float(value) for value in rates]
        self.started, self.seen, self.rates, self.sane, self.fewest = started, plain["seen"], rates, sane, fewest
        self.sums = {name: total.to(self.device) for name, total in sums.items()}
        self.right, self.labelled = counts.to(self.device)

    def add(self, batch: Batch, logits: Tensor, terms: dict[str, Tensor]) -> None:
        """Count one batch, by its number of samples."""
        n = batch.labels.shape[1]
        for name, term in terms.items():
            self.sums[name] = self.sums[name] + term * n if name in self.sums else term * n
        self.right += (logits.argmax(2) == batch.labels).sum(1)
        self.labelled += (batch.labels != UNLABELLED).sum(1)
        self.seen += n

    def figures(self) -> Iterator[dict[str, float]]:
        """Yield for each member its loss terms, accuracy on the labelled samples, and share of the samples/s."""
        rate = self.seen / (time.perf_counter() - self.started)
        means = {name: (total / self.seen).tolist() for name, total in self.sums.items()}
        for k, (right, labelled) in enumerate(zip(self.right.tolist(), self.labelled.tolist(), strict=True)):
            accuracy = {"train_accuracy": right / labelled} if labelled else {}
            yield {**{name: mean[k] for name, mean in means.items()}, **accuracy, "samples_per_second": rate}
