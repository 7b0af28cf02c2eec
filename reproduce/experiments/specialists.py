"""A generalist with specialists for what it confuses."""

from collections.abc import Callable

from experiments.claims import smaller
from experiments.experiment import Experiment, Findings, Results, sweep

MNIST, CONFUSABLE = "specialists_mnist", "specialists_confusable"
SEEDS = ("seed=0,1,2,3,4", "teacher.seed=${seed}")


def findings(name: str, where: str) -> Callable[[Results], Findings]:
    """Whether the specialists help, as teachers and by their student, and where."""

    def found(results: Results) -> Findings:
        combined = results.runs(name, "teacher_errors")
        generalist = results.looked_up(name, lambda result: result.teacher.generalist.errors)
        student, alone = results.runs(name, "student_errors"), results.runs(name, "baseline_errors")
        claims = [
            smaller(f"{where}: with specialists fewer errors than the generalist", "26.1 against 25.0 % right",
                    combined, generalist),
            smaller(f"{where}: their student makes fewer errors than the same net alone", "announced", student, alone),
        ]  # fmt: skip
        return Findings(claims, covering(results, name))

    return found


def covering(results: Results, name: str) -> list[str]:
    """Errors of the generalist and of all together, by how many specialists know the correct class, over all seeds."""
    rows: dict[int, list[int]] = {}
    for result in results.each(name):
        for row in result.teacher.covering:
            total = rows.setdefault(row.specialists, [0, 0, 0])
            for k, count in enumerate((row.n, row.generalist_errors, row.errors)):
                total[k] += count
    if not rows:
        return []
    lines = ["| specialists that know the correct class | test images, all seeds | errors of the generalist | of all |"]
    lines.append("|---|---|---|---|")
    return lines + [f"| {number} | {n:,} | {alone:,} | {all_:,} |" for number, (n, alone, all_) in sorted(rows.items())]


ON_MNIST = Experiment(
    name=MNIST,
    about="Hinton, Vinyals and Dean (2015), section 5, on MNIST instead of JFT: five specialists of three digits each.",
    steps=(sweep(MNIST, *SEEDS),),
    minutes={"short": 15, "full": 60},
    findings=findings(MNIST, "MNIST"),
)
ON_CONFUSABLE = Experiment(
    name=CONFUSABLE,
    about="The same where specialists must help: 100 made-up classes, of which the generalist knows the 10 groups.",
    steps=(sweep(CONFUSABLE, *SEEDS, on_mnist=False),),
    minutes={"short": 8, "full": 8},
    findings=findings(CONFUSABLE, "100 classes in 10 groups"),
)
