"""The strong teachers, which the other experiments share."""

from experiments.claims import agrees
from experiments.experiment import Experiment, Findings, Results, Step


def findings(results: Results) -> Findings:
    """Their test errors."""
    errors = results.runs("teachers_mnist", "teacher_errors")
    return Findings([agrees("2 × 1200 with dropout, max-norm and jitter: test errors", 67, errors)], [])


EXPERIMENT = Experiment(
    name="teachers_mnist",
    about="Hinton, Vinyals and Dean (2015), section 3: the big net. Trained in full under either budget.",
    steps=(Step("teachers_mnist", ("experiment=teachers_mnist",), ("kd", "train-teacher", "--multirun")),),
    minutes={"short": 60, "full": 60},
    findings=findings,
)
