"""The page docs/paper.md, from what the sweeps found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.claims import RULES
from experiments.experiment import Experiment, Findings, Results


def page(figures: Path, experiments: Sequence[Experiment], results: Results, log: dict[str, dict[str, Any]]) -> str:
    """The Markdown; figures of what has run are written into their folder, beside which the page is to stand."""
    found = [(experiment, experiment.findings(results)) for experiment in experiments]
    lines = [
        "# The paper's claims, measured",
        "",
        f"`make reproduce MNIST=<folder> BUDGET={results.budget}` runs what stands here, in sequence, and writes this",
        "page; no verdict is written by hand. Test errors are of MNIST's 10,000 test images, mean ± standard deviation",
        "over seeds: how far another training would differ, not how far other test images would. With BUDGET=short a",
        "student is trained for a quarter or a fifth of the epochs that it has with BUDGET=full.",
        "",
        RULES,
        "",
        "| claim | paper | measured | seeds | verdict | experiment |",
        "|---|---|---|---|---|---|",
    ]
    for experiment, findings in found:
        link = f"[{experiment.name}](#{experiment.name})"
        for claim in findings.claims:
            cells = (claim.text, claim.paper, claim.measured, claim.seeds, claim.verdict, link)
            lines.append(f"| {' | '.join(cells)} |")
    for experiment, findings in found:
        lines += ["", *_section(figures, experiment, findings, results, log.get(experiment.name))]
    return "\n".join(lines) + "\n"


def _section(
    figures: Path, experiment: Experiment, findings: Findings, results: Results, ran: dict[str, Any] | None
) -> list[str]:
    budget = results.budget if results.budget in experiment.minutes else "full"
    lines = [f"## {experiment.name}", "", experiment.about, "", "```"]
    lines += [step.shown(budget) for step in experiment.steps]
    lines += ["```", "", _how_far(experiment, results, ran)]
    if findings.lines:
        lines += ["", *findings.lines]
    if findings.draw is not None:
        path = figures / f"{experiment.name}.png"
        findings.draw(path)
        lines += ["", f"![{experiment.name}]({figures.name}/{path.name})"]
    return lines


def _how_far(experiment: Experiment, results: Results, ran: dict[str, Any] | None) -> str:
    """How many jobs are done, what they took and on what."""
    sweeps = dict.fromkeys(step.sweep for step in experiment.steps)
    jobs = [job for name in sweeps for job in results.summary(name)["jobs"]]
    if not jobs:
        return "Not run." if results.budget in experiment.minutes else "Not run: only with BUDGET=full."
    done = sum(job["status"] == "completed" for job in jobs)
    missing = [name for name in sweeps if not results.summary(name)["jobs"]]
    told = f"{done} of {len(jobs)} jobs completed" + (f", {', '.join(missing)} not run" if missing else "")
    if ran is None:
        return f"{told}; time and machine were not recorded."
    return f"{told}, in {ran['seconds'] / 60:.0f} minutes with what was in the store: {ran['machine']}."
