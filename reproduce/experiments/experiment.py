"""An experiment of docs/paper.md: the commands that make it, and what is read of their summaries."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.claims import Claim, Runs
from kd_cli.runs.result import Result

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Results:
    """What the sweeps below an output folder found, read from their summaries alone."""

    output: Path
    budget: str

    def folder(self, sweep: str) -> Path:
        """A sweep's folder."""
        return self.output / "sweeps" / f"{sweep}_{self.budget}"

    def summary(self, sweep: str) -> dict[str, Any]:
        """Its summary.json; empty before it has run."""
        path = self.folder(sweep) / "summary.json"
        return json.loads(path.read_text()) if path.is_file() else {"jobs": [], "groups": []}

    def jobs(self, sweep: str, where: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Its completed jobs that have these values."""
        done = [job for job in self.summary(sweep)["jobs"] if job["status"] == "completed"]
        return [job for job in done if all(_same(job.get(key), value) for key, value in (where or {}).items())]

    def runs(self, sweep: str, figure: str, where: dict[str, Any] | None = None) -> Runs:
        """One figure of these jobs by their seed: `student_errors`, `baseline_accuracy`, …"""
        found = {}
        for job in self.jobs(sweep, where):
            if job.get(figure) is not None:
                found[int(job["teacher.seed"] if job.get("seed") is None else job["seed"])] = float(job[figure])
        return found

    def each(self, sweep: str) -> list[Result]:
        """Return the results of its completed jobs."""
        found = (Result.read(self.folder(sweep) / job["job"]) for job in self.jobs(sweep))
        return [result for result in found if result is not None]

    def looked_up(self, sweep: str, look: Callable[[Result], float]) -> Runs:
        """Return a figure that the summary leaves out, of each completed job by its seed."""
        return {int(str(result.seed)): float(look(result)) for result in self.each(sweep)}


def _same(found: Any, wanted: Any) -> bool:
    """An override is kept as it was typed: '1.0' is 1."""
    try:
        return float(found) == float(wanted)
    except (TypeError, ValueError):
        return str(found) == str(wanted)


@dataclass(frozen=True)
class Step:
    """One command line. A sweep's folder is `<sweep>_<budget>`, so that budgets do not mix.

    `teacher_of`: the sweep whose teacher of seed 0 is taken from the store as it is. `on_mnist`: it wants its folder.
    """

    sweep: str
    words: tuple[str, ...]
    command: tuple[str, ...] = ("kd", "sweep")
    teacher_of: str | None = None
    on_mnist: bool = True

    def shown(self, budget: str) -> str:
        """As a person would type it."""
        words = self._words("<folder>", "outputs/teachers/<id>", budget)
        return " ".join(word if "<" in word else shlex.quote(word) for word in [*self.command, *words])

    def line(self, mnist: str, results: Results) -> list[str]:
        """As it is run; LookupError before the sweep that has its teacher."""
        teacher = ""
        if self.teacher_of:
            found = results.jobs(self.teacher_of, {"teacher.seed": 0})
            if not found:
                raise LookupError(f"{self.teacher_of} must have run before: its teacher is wanted.")
            teacher = str(results.output / found[0]["teacher_artifact"])
        program, *rest = self.command
        words = self._words(mnist, teacher, results.budget)
        if program == "python":
            return [sys.executable, str(ROOT / rest[0]), *words, f"--output={results.output}"]
        return [str(Path(sys.executable).with_name(program)), *rest, *words, f"output_dir={results.output}"]

    def _words(self, mnist: str, teacher: str, budget: str) -> list[str]:
        if self.command[0] == "python":
            return [f"--mnist={mnist}", f"--budget={budget}"]
        words = [*self.words, *([f"dataset.root={mnist}"] if self.on_mnist else [])]
        words.append(f"sweep.name={self.sweep}_{budget}")
        if self.command[1] == "sweep":
            words.append(f"budget={budget}")
        return words + (["teacher=artifact", f"teacher.path={teacher}"] if self.teacher_of else [])


def sweep(experiment: str, *words: str, name: str | None = None, **more: Any) -> Step:
    """`kd sweep experiment=<experiment> <words>`."""
    return Step(name or experiment, (f"experiment={experiment}", *words), **more)


@dataclass(frozen=True)
class Findings:
    """An experiment's part of the page: its claims, lines of Markdown below them, and how its figure is drawn."""

    claims: list[Claim]
    lines: list[str]
    draw: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Experiment:
    """`minutes` by budget: an estimate for one thread of a 2-core AMD EPYC, with the teachers in the store. A budget
    that is absent does not run it.
    """

    name: str
    about: str
    steps: tuple[Step, ...]
    minutes: dict[str, float]
    findings: Callable[[Results], Findings]
