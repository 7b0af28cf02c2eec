"""Distillation at a high temperature is logit matching: gradients, and students."""

import json
from pathlib import Path
from statistics import mean

from experiments.claims import Claim, smaller, spread
from experiments.experiment import Experiment, Findings, Results, Step, sweep

NAME = "logit_matching"
GRADIENTS = "gradients.json"  # in the sweep's folder
NEAR = 0.999
KINDS = ("logits", "weights")


def findings(results: Results) -> Findings:
    """The limit of the gradients, and the test errors of three objectives."""
    errors = {
        name: results.runs(NAME, "student_errors", {"objective": name})
        for name in ("hinton", "logit_matching", "hard_teacher")
    }
    path = results.folder(NAME) / GRADIENTS
    measured = json.loads(path.read_text()) if path.is_file() else None
    claims = [
        *(_limit(kind, measured) for kind in KINDS),
        smaller(
            "Softened targets (T = 20) teach better than the teacher's answer alone",
            "–",
            errors["hinton"],
            errors["hard_teacher"],
        ),
        smaller(
            "Softened targets (T = 20) teach better than its logits", "–", errors["hinton"], errors["logit_matching"]
        ),
    ]
    lines = []
    if any(errors.values()):
        alone = results.runs(NAME, "baseline_errors")
        lines = ["| objective | test errors |", "|---|---|"]
        lines += [f"| `{name}` | {spread(runs.values())} |" for name, runs in errors.items()]
        lines += [f"| hard labels alone | {spread(alone.values())} |", ""]
    if measured is None:
        return Findings(claims, lines)
    lines += [
        "| cosine of the gradients, by | " + " | ".join(f"T = {each:g}" for each in measured["temperatures"]) + " |"
    ]
    lines += ["|---|" + "---|" * len(measured["temperatures"])]
    for kind in KINDS:
        cells = [spread(values, ".4f") for values in zip(*measured[kind].values(), strict=True)]
        lines.append(f"| the student's {kind} | {' | '.join(cells)} |")
    return Findings(claims, lines, lambda path: _draw(path, measured))


def _limit(kind: str, measured: dict | None) -> Claim:
    """Reproduced if the mean cosine rises with every temperature and ends above NEAR."""
    text = f"The gradient by the student's {kind} turns into that of logit matching (cosine rises to above {NEAR})"
    if measured is None:
        return Claim(text, "the limit for large T")
    means = [mean(values) for values in zip(*measured[kind].values(), strict=True)]
    reached = means == sorted(means) and means[-1] > NEAR
    shown = (
        f"{means[0]:.3f} at T = {measured['temperatures'][0]:g}, {means[-1]:.5f} at {measured['temperatures'][-1]:g}"
    )
    return Claim(
        text, "the limit for large T", shown, ", ".join(measured[kind]), "reproduced" if reached else "contradicted"
    )


def _draw(path: Path, measured: dict) -> None:
    """1 − cosine over the temperature, a line for each seed."""
    from experiments.figure import figure

    with figure(path) as axes:
        for kind, colour in zip(KINDS, ("C0", "C1"), strict=True):
            for k, values in enumerate(measured[kind].values()):
                label = f"by the student's {kind}" if k == 0 else None
                axes.plot(
                    measured["temperatures"], [1 - value for value in values], f"o-{colour}", markersize=3, label=label
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("temperature")
        axes.set_ylabel("1 − cosine with the gradient\nof logit matching")
        axes.legend(frameon=False)


EXPERIMENT = Experiment(
    name=NAME,
    about="Hinton, Vinyals and Dean (2015), section 2.1: the gradient of T²-scaled distillation beside that of logit "
    "matching, for 1,000 training images and the students that were trained without a teacher; and the same student by "
    "three objectives.",
    steps=(sweep(NAME), Step(NAME, (), ("python", "reproduce/gradient_limit.py"))),
    minutes={"short": 6, "full": 23},
    findings=findings,
)
