"""The figures of a report, as small pure functions of float32 logits `[N, classes]` and int64 labels `[N]`."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_cli.data.samples import Votes


def errors(logits: Tensor, labels: Tensor) -> int:
    """Return the number of samples whose most probable class is not their label."""
    return int((logits.argmax(1) != labels).sum())


def nll(logits: Tensor, labels: Tensor) -> float:
    """Return the mean negative log-likelihood in nats."""
    return float(F.cross_entropy(logits.double(), labels))


def ece(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error over equal-width bins of confidence (Guo et al. 2017, section 2, equation
    3).
    """
    confidence, prediction = logits.double().softmax(1).max(1)
    correct = (prediction == labels).double()
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are (lower, upper]
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, which, correct - confidence)
    return float(gap.abs().sum() / len(labels))


def agreement(logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the share of samples on which two models predict the same class."""
    return float((logits.argmax(1) == teacher_logits.argmax(1)).double().mean())


def kl_to_teacher(logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the mean KL(teacher ‖ student) in nats at T = 1."""
    student, teacher = logits.double().log_softmax(1), teacher_logits.double().log_softmax(1)
    return float(F.kl_div(student, teacher, reduction="batchmean", log_target=True))


def per_class(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return `n` and `errors` of each class, by name."""
    wrong = logits.argmax(1) != labels
    count = torch.bincount(labels, minlength=len(classes))
    missed = torch.bincount(labels[wrong], minlength=len(classes))
    return {name: {"n": int(count[k]), "errors": int(missed[k])} for k, name in enumerate(classes)}


def outvoted(logits: Tensor, votes: Votes) -> tuple[int, int]:
    """Return how many wholes are taken for something else by the votes of their samples, each of which shares out the
    probabilities of its classes, and how many wholes there are.
    """
    wholes, which = votes.whole.unique(return_inverse=True)
    cast = torch.zeros(len(wholes), votes.shares.shape[1], dtype=torch.float64)
    cast.index_add_(0, which, logits.double().softmax(1) @ votes.shares.double())
    right = torch.zeros(len(wholes), dtype=torch.int64).index_put_((which,), votes.answer)
    return int((cast.argmax(1) != right).sum()), len(wholes)
