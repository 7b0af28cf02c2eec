"""A generalist with specialists for what it confuses."""

from experiments.claims import smaller
from experiments.experiment import Experiment, Findings, Results, sweep

NAME = "specialists_mnist"
SEEDS = ("seed=0,1,2,3,4", "teacher.seed=${seed}")


def findings(results: Results) -> Findings:
    """Whether the specialists help, as teachers and by their student."""
    combined = results.runs(NAME, "teacher_errors")
    generalist = results.looked_up(NAME, "teacher", "generalist", "errors")
    student, alone = results.runs(NAME, "student_errors"), results.runs(NAME, "baseline_errors")
    claims = [
        smaller("With specialists fewer errors than the generalist", "26.1 against 25.0 % right", combined, generalist),
        smaller("Their student makes fewer errors than the same net alone", "–", student, alone),
    ]
    return Findings(claims, [])


EXPERIMENT = Experiment(
    name=NAME,
    about="Hinton, Vinyals and Dean (2015), section 5, on MNIST instead of JFT: five specialists of three digits each.",
    steps=(sweep(NAME, *SEEDS),),
    minutes={"short": 15, "full": 60},
    findings=findings,
)
