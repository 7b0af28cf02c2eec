"""Students of their teacher's size, one generation after the other."""

from experiments.claims import smaller, spread
from experiments.experiment import Experiment, Findings, Results, Step, sweep

GENERATIONS = 3
SEEDS = range(
    3
)  # of generation 0; 10 more for each next one, as a student of the same seed begins from the same weights


def _name(generation: int) -> str:
    return f"generation_{generation}"


def _step(generation: int) -> Step:
    if generation == 0:
        return sweep("born_again", "soft_weight=0", "hard_weight=1", name=_name(0))
    seeds = ",".join(str(10 * generation + seed) for seed in SEEDS)
    path = f"teacher.path=${{output_dir}}/sweeps/{_name(generation - 1)}_${{budget}}/seed-${{plus:seed,-10}}"
    return sweep("born_again", f"seed={seeds}", "teacher=artifact", path, name=_name(generation))


def findings(results: Results) -> Findings:
    """Each generation against the first."""
    errors = [
        {seed - 10 * each: wrong for seed, wrong in results.runs(_name(each), "student_errors").items()}
        for each in range(GENERATIONS + 1)
    ]
    text, paper = "2 × 800: generation {} makes fewer errors than generation 0", "students outperform their teachers"
    claims = [smaller(text.format(each), paper, errors[each], errors[0]) for each in range(1, GENERATIONS + 1)]
    lines = ["| generation | test errors |", "|---|---|"]
    lines += [f"| {each} | {spread(runs.values())} |" for each, runs in enumerate(errors)]
    return Findings(claims, lines if any(errors) else [])


EXPERIMENT = Experiment(
    name="born_again",
    about="Furlanello et al. (2018), on MNIST: generation 0 learns from hard labels, each next one also from the last, "
    "at T = 4 with weights 0.9 (soft) and 0.1 (hard).",
    steps=tuple(_step(each) for each in range(GENERATIONS + 1)),
    minutes={"short": 7, "full": 25},
    findings=findings,
)
