"""Odd command lines, damaged data files and damaged artifacts: `--size` examples, most of them command lines.

Prints a line of a Markdown table for each: what, examples, what came of them, seconds.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import fuzzing
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from running import TINY, inside

WORDS = (*TINY, "baseline=false")
KINDS = st.sampled_from(["plain", "gzipped", "folder"])


def outcomes(drawn: st.SearchStrategy[Any], check: Callable[..., str], size: int, number: int) -> Counter[str]:
    """How often each outcome of `check` came about in so many examples; raises what `check` raises."""
    counts: Counter[str] = Counter()

    @seed(number)
    @settings(max_examples=size, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(drawn)
    def each(example: tuple[Any, ...]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            counts[check(*example, Path(folder))] += 1

    each()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=3000)
    asked = parser.parse_args()
    print("| what | examples | outcome | time |\n|---|---|---|---|")
    lines, data = asked.size // 2, asked.size * 29 // 60
    with tempfile.TemporaryDirectory() as made:
        assert inside("distill", *WORDS, cwd=Path(made)).status == 0
        artifacts = st.integers(0, 99), fuzzing.damages
        kinds = {
            "command lines": (lines, (fuzzing.command_lines,), lambda words, folder: fuzzing.config_of(words, folder)),
            "damaged data files": (data, (KINDS, st.integers(0, 9), fuzzing.damages),
                                   lambda kind, which, damage, folder: fuzzing.data_of(kind, which, *damage, folder)),
            "damaged artifacts": (asked.size - lines - data, artifacts, lambda which, damage, folder:
                                  fuzzing.artifact_of(Path(made), which, *damage, folder, WORDS)),
        }  # fmt: skip
        for name, (examples, strategies, check) in kinds.items():
            began = time.perf_counter()
            counts = outcomes(st.tuples(*strategies), check, examples, asked.seed)
            what = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(counts.items()))
            print(f"| {name} | {sum(counts.values()):,} | {what} | {time.perf_counter() - began:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
