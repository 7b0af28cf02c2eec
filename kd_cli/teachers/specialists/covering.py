"""What specialists gain, by how many of them know the correct class (Hinton, Vinyals and Dean 2015, section 5.4)."""

from typing import Any

import torch
from torch import Tensor


def covering(generalist: Tensor, combined: Tensor, labels: Tensor, sets: Tensor) -> list[dict[str, int]]:
    """Errors of both (logits `[N, K]`, labels `[N]`), by the number of `sets` (int64 `[M, C]`) that hold the label."""
    count = (sets[None] == labels[:, None, None]).any(2).sum(1)
    rows = []
    for number in count.unique().tolist():
        where = count == number
        wrong = [int((logits[where].argmax(1) != labels[where]).sum()) for logits in (generalist, combined)]
        rows.append({"specialists": number, "n": int(where.sum()), "generalist_errors": wrong[0], "errors": wrong[1]})
    return rows


def conditional(generalist: Tensor, combined: Tensor, labels: Tensor, sets: Tensor) -> dict[str, Any]:
    """Accuracy of both on the samples of each specialist's classes, with predictions restricted to these classes; a
    sample counts once for each specialist that knows its class.
    """
    n, right = 0, [0, 0]
    for own in sets:
        known = torch.isin(labels, own)
        n += int(known.sum())
        for k, logits in enumerate((generalist, combined)):
            right[k] += int((own[logits[known][:, own].argmax(1)] == labels[known]).sum())
    return {"n": n, "generalist_accuracy": right[0] / n if n else None, "accuracy": right[1] / n if n else None}
