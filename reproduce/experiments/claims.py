"""Claims against measured figures, each judged by a rule that is stated on the page."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import t

Runs = dict[int, float]  # seed → figure

MARGIN = 0.10
RULES = f"""\
- A comparison is paired by seed; in brackets stands the 95 % interval (Student's t) of the mean difference.
  *Reproduced* if the interval lies on the claimed side of 0, *contradicted* if on the other, *undecided* if 0 is in it.
- "Alike" is *reproduced* if the interval of the difference lies within ± {MARGIN:.0%} of the mean, *contradicted* if
  wholly outside, else *undecided*.
- A figure of the paper *agrees* if it lies in the 95 % interval of the measured mean, else it *differs*.
- One seed decides nothing, and what has not run is said to be so."""


@dataclass(frozen=True)
class Claim:
    """A row of the page."""

    text: str
    paper: str
    measured: str = "not run"
    seeds: str = "–"
    verdict: str = "not run"


def spread(values: Iterable[float], form: str = ".1f") -> str:
    """Mean ± sample standard deviation."""
    known = list(values)
    if not known:
        return "–"
    return f"{statistics.mean(known):{form}}" + (f" ± {statistics.stdev(known):{form}}" if len(known) > 1 else "")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean, by Student's t; all numbers for a single value, or for one that comes again."""
    if len(set(values)) < 2:
        return -math.inf, math.inf
    mean = statistics.mean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return mean - half, mean + half


def smaller(text: str, paper: str, small: Runs, large: Runs, form: str = ".1f") -> Claim:
    """The claim that `small` is smaller than `large`."""

    def judge(low: float, high: float) -> str:
        return "reproduced" if low > 0 else "contradicted" if high < 0 else "undecided"

    return _paired(text, paper, small, large, form, judge)


def alike(text: str, paper: str, one: Runs, other: Runs, form: str = ".1f") -> Claim:
    """The claim that the two do not differ by more than the margin."""
    both = [*one.values(), *other.values()]
    bound = MARGIN * statistics.mean(both) if both else 0.0

    def judge(low: float, high: float) -> str:
        if -bound < low and high < bound:
            return "reproduced"
        return "contradicted" if low > bound or high < -bound else "undecided"

    return _paired(text, paper, one, other, form, judge)


def agrees(text: str, paper: float, runs: Runs, form: str = ".1f") -> Claim:
    """A figure of the paper beside the measured ones."""
    if not runs:
        return Claim(text, f"{paper:g}")
    low, high = interval(list(runs.values()))
    verdict = "agrees" if low <= paper <= high else "differs"
    return Claim(text, f"{paper:g}", spread(runs.values(), form), _names(list(runs)), _of_several(verdict, len(runs)))


def averaged(parts: Iterable[Runs]) -> Runs:
    """The mean over several settings, seed by seed, for the seeds that all of them have."""
    known = [part for part in parts if part]
    if not known:
        return {}
    seeds = set(known[0]).intersection(*known)
    return {seed: statistics.mean(part[seed] for part in known) for seed in seeds}


def _paired(text: str, paper: str, one: Runs, other: Runs, form: str, judge: Callable[[float, float], str]) -> Claim:
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return Claim(text, paper)
    differences = [other[seed] - one[seed] for seed in seeds]
    low, high = interval(differences)
    measured = f"{spread((one[s] for s in seeds), form)} against {spread((other[s] for s in seeds), form)}"
    measured += f": difference {statistics.mean(differences):{form}}"
    if math.isfinite(low):
        measured += f" [{low:{form}}, {high:{form}}]"
    return Claim(text, paper, measured, _names(seeds), _of_several(judge(low, high), len(seeds)))


def _of_several(verdict: str, seeds: int) -> str:
    return verdict if seeds > 1 else "one seed"


def _names(seeds: Sequence[int]) -> str:
    known = sorted(seeds)
    together = len(known) > 2 and known == list(range(known[0], known[-1] + 1))
    return f"{known[0]}–{known[-1]}" if together else ", ".join(map(str, known))
