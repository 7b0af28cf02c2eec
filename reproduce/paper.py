"""Runs the experiments of the paper, one after the other, and writes docs/paper.md from what they found.

    python reproduce/paper.py --mnist <folder> [--budget short|full] [--only temperature_by_width]     (make reproduce)
    python reproduce/paper.py --write                       only the page, from what lies in the output folder

Started again it goes on: a sweep runs the jobs that are missing. An experiment that fails does not stop the others.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import EXPERIMENTS
from experiments.experiment import ROOT, Experiment, Results
from page import page

from kd_cli.device import hardware


class Log:
    """What is known of each experiment's running, `paper_<budget>.json` in the output folder: wall time and machine."""

    def __init__(self, results: Results) -> None:
        self._path = results.output / f"paper_{results.budget}.json"
        self.known = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        known: dict[str, dict[str, Any]] = json.loads(self._path.read_text()) if self._path.is_file() else {}
        return known

    def add(self, name: str, seconds: float, complete: bool) -> None:
        """Counts the time until an experiment was complete; finding it complete again costs nothing that matters."""
        self.known = self._read()  # another experiment may have ended meanwhile, in a process of its own
        before = self.known.get(name, {"seconds": 0.0, "complete": False})
        if before["complete"]:
            return
        entry = {"seconds": before["seconds"] + seconds, "complete": complete, "machine": hardware(threads())}
        self.known[name] = entry
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.known, indent=2) + "\n")

    def pace(self, experiments: Sequence[Experiment], budget: str) -> float:
        """What the finished experiments took, over what they state."""
        done = [each for each in experiments if self.known.get(each.name, {}).get("complete")]
        stated = sum(60 * each.minutes[budget] for each in done if budget in each.minutes)
        return sum(self.known[each.name]["seconds"] for each in done) / stated if stated else 1.0

    def minutes_left(self, experiments: Sequence[Experiment], budget: str) -> float:
        """The stated minutes of those that are not complete, at the pace of those that are."""
        stated = sum(each.minutes[budget] for each in experiments if not self.known.get(each.name, {}).get("complete"))
        return stated * self.pace(EXPERIMENTS, budget)


def threads() -> int:
    """The threads that kd takes here."""
    import torch

    return torch.get_num_threads()


def run(experiment: Experiment, mnist: str, results: Results) -> bool:
    """Runs its command lines in turn; False as soon as one fails."""
    for step in experiment.steps:
        say(f"$ {step.shown(results.budget)}")
        try:
            line = step.line(mnist, results)
        except LookupError as error:
            say(str(error))
            return False
        process = subprocess.Popen(line)
        try:
            status = process.wait()
        except KeyboardInterrupt:  # kd has the signal too, and writes down where it stands
            process.wait()
            raise
        if status != 0:
            return False
    return True


def say(text: str) -> None:
    """A line on standard error, where kd's own progress goes."""
    print(text, file=sys.stderr, flush=True)


def write(path: Path, results: Results) -> None:
    """Writes the page and its figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(path.parent / "figures", EXPERIMENTS, results, Log(results).known), encoding="utf-8")
    say(str(path))


def main() -> int:
    """Exit status 1 where an experiment failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", default="data", help="folder of the data set, downloaded there if absent")
    parser.add_argument("--output", default="outputs", help="kd's output_dir")
    parser.add_argument("--budget", default="short", choices=("short", "full"))
    parser.add_argument("--only", choices=[each.name for each in EXPERIMENTS], help="one experiment alone")
    parser.add_argument("--write", action="store_true", help="run nothing")
    parser.add_argument("--page", default=str(ROOT / "docs" / "paper.md"))
    asked = parser.parse_args()
    results = Results(Path(asked.output), asked.budget)
    chosen = [each for each in EXPERIMENTS if asked.only in (None, each.name) and asked.budget in each.minutes]
    if not chosen:
        parser.error(f"{asked.only} is not run with --budget {asked.budget}")
    failed = []
    for k, experiment in enumerate([] if asked.write else chosen):
        log = Log(results)
        left = log.minutes_left(chosen[k:], asked.budget)
        say(f"\n{experiment.name}, {k + 1} of {len(chosen)}; the rest takes about {left:.0f} minutes.")
        started, complete = time.perf_counter(), False
        try:
            complete = run(experiment, asked.mnist, results)
        finally:
            log.add(experiment.name, time.perf_counter() - started, complete)
        if not complete:
            failed.append(experiment.name)
            say(f"{experiment.name} failed; its log is above, the others go on.")
    write(Path(asked.page), results)
    if failed:
        say(f"Failed: {', '.join(failed)}. The same command runs what is missing.")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("Interrupted: the same command goes on.")
        sys.exit(130)
