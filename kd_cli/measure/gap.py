"""How much of the gap between baseline and teacher the student recovered, over seeds; never imports torch."""

from collections.abc import Sequence

import numpy as np


def gap_recovered(teacher: Sequence[int], student: Sequence[int], baseline: Sequence[int]) -> float | None:
    """Return (baseline − student) / (baseline − teacher) of the mean errors over seeds; None where there is no gap."""
    t, s, b = (float(np.mean(x)) for x in (teacher, student, baseline))
    return (b - s) / (b - t) if b > t else None


def gap_interval(
    teacher: Sequence[int], student: Sequence[int], baseline: Sequence[int], resamples: int = 10_000
) -> tuple[float, float] | None:
    """Return the 95 % interval of `gap_recovered` (2.5 and 97.5 % quantiles) by a bootstrap that draws seeds, each with
    its three models together.

    None below two seeds, or where a resample has no gap to recover (the ratio is then meaningless).
    """
    if len(teacher) < 2:
        return None
    draws = np.random.default_rng(0).integers(len(teacher), size=(resamples, len(teacher)))
    t, s, b = (np.asarray(x, dtype=float)[draws].mean(1) for x in (teacher, student, baseline))
    if (b <= t).any():
        return None
    low, high = np.quantile((b - s) / (b - t), [0.025, 0.975])
    return float(low), float(high)
