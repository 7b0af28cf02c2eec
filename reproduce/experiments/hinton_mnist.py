"""Distilling the big net into the small one, with and without views."""

from experiments.claims import Claim, agrees, smaller
from experiments.experiment import Experiment, Findings, Results, sweep


def findings(results: Results) -> Findings:
    """The paper's three figures, and the share of the gap."""
    student = results.runs("hinton_mnist", "student_errors")
    alone = results.runs("hinton_mnist", "baseline_errors")
    claims = [
        agrees("2 × 800 without regularisation, hard labels alone: test errors", 146, alone),
        agrees("… distilled at T = 20: test errors", 74, student),
        smaller("Distilling makes fewer errors than the same net alone", "74 against 146", student, alone),
        _gap(results),
    ]
    return Findings(claims, [])


def _gap(results: Results) -> Claim:
    text, paper = "Share of the gap between baseline and teacher that is recovered", "91 %"
    groups = results.summary("hinton_mnist")["groups"]
    if len(groups) != 1 or groups[0].get("gap_recovered") is None:
        return Claim(text, paper)
    seeds, within = str(groups[0]["n"]), groups[0].get("gap_interval")
    if within is None:
        return Claim(text, paper, f"{groups[0]['gap_recovered']:.0%}", seeds, "one seed")
    measured = f"{groups[0]['gap_recovered']:.0%} [{within[0]:.0%}, {within[1]:.0%}] (bootstrap)"
    return Claim(text, paper, measured, seeds, "agrees" if within[0] <= 0.91 <= within[1] else "differs")


def findings_with_views(results: Results) -> Findings:
    """Whether the teacher still helps where the jitter is part of the transfer set."""
    student = results.runs("hinton_mnist_views", "student_errors")
    alone = results.runs("hinton_mnist_views", "baseline_errors")
    text = "With 40 jittered views, distilling makes fewer errors than the same net alone"
    return Findings([smaller(text, "–", student, alone)], [])


SEEDS = ("seed=0,1,2", "teacher.seed=${seed}")

EXPERIMENT = Experiment(
    name="hinton_mnist",
    about="Hinton, Vinyals and Dean (2015), section 3: the big net into the small one, a teacher for each seed.",
    steps=(sweep("hinton_mnist", *SEEDS),),
    minutes={"short": 15, "full": 15},
    findings=findings,
)
WITH_VIEWS = Experiment(
    name="hinton_mnist_views",
    about="As hinton_mnist, but with 40 jittered views of each image in the transfer set, for 80 epochs.",
    steps=(sweep("hinton_mnist_views", *SEEDS),),
    minutes={"full": 45},
    findings=findings_with_views,
)
