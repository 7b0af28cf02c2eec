"""Transfer sets without some of the classes, and the output bias corrected afterwards."""

from experiments.claims import Runs, agrees, smaller, spread
from experiments.experiment import Experiment, Findings, Results, sweep
from experiments.hinton_mnist import SEEDS

THREES, ONLY = "missing_threes", "only_sevens_and_eights"
# The bias is chosen by a rule that sees no test label, and on a second line on the test set, as the paper's was.
STEPS = {name: (sweep(name, *SEEDS), sweep(name, "bias_correction=oracle", *SEEDS, name=f"{name}_oracle"))
         for name in (THREES, ONLY)}  # fmt: skip


def threes(results: Results) -> Findings:
    """Errors on all images, and on the threes."""

    def on_threes(name: str, role: str) -> Runs:
        return results.looked_up(name, lambda result: result.figures[role].per_class["3"].errors)

    oracle = f"{THREES}_oracle"
    student, corrected = (results.runs(THREES, f"{role}_errors") for role in ("student", "corrected"))
    claims = [
        agrees("No 3 in the transfer set: test errors", 206, student),
        agrees("… of them on the 1,010 threes", 133, on_threes(THREES, "student")),
        agrees("… the bias of 3 raised by what is best on the test set: test errors", 109,
               results.runs(oracle, "corrected_errors")),
        agrees("… of them on the threes", 14, on_threes(oracle, "corrected")),
        smaller("… the biases set without a test label: fewer errors than uncorrected", "–", corrected, student),
        smaller("… and fewer on the threes", "–", on_threes(THREES, "corrected"), on_threes(THREES, "student")),
    ]  # fmt: skip
    return Findings(claims, [])


def sevens_and_eights(results: Results) -> Findings:
    """The share of the test images that is wrong."""

    def wrong(name: str, role: str) -> Runs:
        return {seed: 100 * (1 - right) for seed, right in results.runs(name, f"{role}_accuracy").items()}

    uncorrected, corrected = wrong(ONLY, "student"), wrong(ONLY, "corrected")
    oracle = wrong(f"{ONLY}_oracle", "corrected")
    claims = [
        agrees("Nothing but 7s and 8s in the transfer set: test errors, %", 47.3, uncorrected),
        agrees("… the biases of 7 and 8 lowered by what is best on the test set, %", 13.2, oracle),
        smaller("… the biases set without a test label: fewer than uncorrected, %", "–", corrected, uncorrected),
    ]
    return Findings(claims, [])


def black_box(results: Results) -> Findings:
    """What the teacher's answers alone are worth, by the images that it is asked about."""
    rows = {name: results.runs(name, "student_errors") for name in BLACK_BOXES}
    taught = results.runs("hinton_mnist", "student_errors")
    claims = [
        smaller(f"{what}: more errors than with the images and all classes", "–", taught, rows[name])
        for name, what in BLACK_BOXES.items()
    ]
    lines = ["| transfer set | test errors |", "|---|---|"]
    lines += [f"| {BLACK_BOXES[name].lower()} | {spread(runs.values())} |" for name, runs in rows.items()]
    return Findings(claims, lines if any(rows.values()) else [])


BLACK_BOXES = {
    "black_box_half": "Images of five classes, no labels",
    "black_box_digits": "1,198 other digits, no labels",
    "black_box_noise": "Gaussian noise, no labels",
}
MISSING_THREES = Experiment(
    name=THREES,
    about="Hinton, Vinyals and Dean (2015), section 3: a student that never sees a 3.",
    steps=STEPS[THREES],
    minutes={"short": 6, "full": 20},
    findings=threes,
)
ONLY_SEVENS_AND_EIGHTS = Experiment(
    name=ONLY,
    about="Hinton, Vinyals and Dean (2015), section 3: a student that sees 7s and 8s alone.",
    steps=STEPS[ONLY],
    minutes={"short": 5, "full": 5},
    findings=sevens_and_eights,
)
BLACK_BOX = Experiment(
    name="black_box",
    about="The teacher can be asked, but there are no labels, and other images than its own.",
    steps=tuple(sweep(name, *SEEDS) for name in BLACK_BOXES),
    minutes={"short": 6, "full": 20},
    findings=black_box,
)
