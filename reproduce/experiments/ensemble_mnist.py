"""Five big nets as one teacher."""

from experiments.claims import Runs, agrees, smaller
from experiments.experiment import Experiment, Findings, Results, sweep

NAME = "ensemble_mnist"


def findings(results: Results) -> Findings:
    """The ensemble beside its members, and its student beside the student of a single one."""
    ensemble = results.runs(NAME, "teacher_errors")
    members: Runs = {}  # the same in each job
    for result in results.each(NAME):
        members = {k: float(member.errors) for k, member in enumerate(result.teacher.members)}
    whole = {k: ensemble[min(ensemble)] for k in members}
    student, alone = results.runs(NAME, "student_errors"), results.runs(NAME, "baseline_errors")
    single = results.runs("temperature_by_width", "student_errors", {"student": "mlp_800", "temperature": 20})
    closed = {
        seed: 100 * (alone[seed] - student[seed]) / (alone[seed] - ensemble[seed])
        for seed in student
        if alone[seed] > ensemble[seed]
    }
    text, speech = "The student of five nets makes fewer errors than the same net alone", "60.8 against 58.9 % right"
    claims = [
        smaller(text, speech, student, alone),
        agrees("… share of the gap between the net alone and the ensemble, %", 86, closed),
        smaller("… fewer errors than the student of one net, trained as long", "–", student, single),
        smaller("Five nets make fewer errors than one of them (not over seeds: over the five)",
                "61.1 against 58.9 % right", whole, members),
    ]  # fmt: skip
    return Findings(claims, [])


EXPERIMENT = Experiment(
    name=NAME,
    about="Hinton, Vinyals and Dean (2015), section 4, on MNIST instead of speech (and with five nets instead of ten): "
    "the mean of the softened probabilities of 2 × 1200 into 2 × 800.",
    steps=(sweep(NAME),),
    minutes={"short": 8, "full": 20},
    findings=findings,
)
