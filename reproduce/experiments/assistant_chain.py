"""A teacher's assistant between a large teacher and a narrow student."""

from experiments.claims import smaller, spread
from experiments.experiment import Experiment, Findings, Results, sweep

NAME = "assistant_chain"
ASSISTANTS = "${output_dir}/sweeps/assistants_${budget}/seed-${seed}"  # a job's folder stands for its student
ROWS = {  # what: sweep, role
    "2 × 1200 → 2 × 300, the assistant": ("assistants", "student"),
    "2 × 1200 → 2 × 300 → 2 × 30": ("assisted", "student"),
    "2 × 1200 → 2 × 30": (NAME, "student"),
    "2 × 30, hard labels alone": (NAME, "baseline"),
}


def findings(results: Results) -> Findings:
    """Whether the way by the assistant is better than the direct one."""
    errors = {what: results.runs(name, f"{role}_errors") for what, (name, role) in ROWS.items()}
    _, assisted, direct, alone = errors.values()
    claims = [
        smaller("2 × 30: distilling makes fewer errors than hard labels alone", "–", direct, alone),
        smaller(
            "2 × 30: an assistant of 2 × 300 makes fewer errors than the teacher itself",
            "the assistant helps",
            assisted,
            direct,
        ),
    ]
    lines = ["| way | test errors |", "|---|---|"]
    lines += [f"| {what} | {spread(runs.values())} |" for what, runs in errors.items()]
    return Findings(claims, lines if any(errors.values()) else [])


EXPERIMENT = Experiment(
    name=NAME,
    about="Mirzadeh et al. (2020), on MNIST: large → middle → small beside large → small; T = 4, no hard term.",
    steps=(
        sweep(NAME),
        sweep(NAME, "student=mlp_300", name="assistants"),
        sweep(NAME, "teacher=artifact", f"teacher.path={ASSISTANTS}", name="assisted"),
    ),
    minutes={"short": 8, "full": 30},
    findings=findings,
)
