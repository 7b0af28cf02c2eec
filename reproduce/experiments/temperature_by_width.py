"""Which temperature suits which width."""

from pathlib import Path
from statistics import mean

from experiments.claims import Runs, alike, averaged, smaller, spread
from experiments.experiment import Experiment, Findings, Results, sweep

NAME = "temperature_by_width"
WIDTHS = {"mlp_30": "2 × 30", "mlp_300": "2 × 300", "mlp_800": "2 × 800"}
LOWER, MIDDLE, HIGHER = (1.0, 2.0), (2.5, 4.0), (8.0, 20.0)


def findings(results: Results) -> Findings:
    """Two claims about the narrow net, one for each of the others, and all cells."""

    def errors(student: str, *temperatures: float) -> Runs:
        return averaged(
            results.runs(NAME, "student_errors", {"student": student, "temperature": temperature})
            for temperature in temperatures
        )

    best, alike_above = "2.5 to 4 significantly better", "fairly similar"
    middle = errors("mlp_30", *MIDDLE)
    claims = [
        smaller("2 × 30: T = 2.5 and 4 make fewer errors than 1 and 2", best, middle, errors("mlp_30", *LOWER)),
        smaller("2 × 30: T = 2.5 and 4 make fewer errors than 8 and 20", best, middle, errors("mlp_30", *HIGHER)),
        *(
            alike(f"{WIDTHS[student]}: T = 8 and T = 20 alike", alike_above, errors(student, 8), errors(student, 20))
            for student in ("mlp_300", "mlp_800")
        ),
    ]
    jobs = results.jobs(NAME)
    students = [student for student in WIDTHS if any(job["student"] == student for job in jobs)]
    temperatures = sorted({float(job["temperature"]) for job in jobs})
    if not jobs:
        return Findings(claims, [])
    cells = {student: [errors(student, each) for each in temperatures] for student in students}
    alone = {student: results.runs(NAME, "baseline_errors", {"student": student}) for student in students}
    lines = ["| test errors | " + " | ".join(f"T = {each:g}" for each in temperatures) + " | hard labels alone |"]
    lines.append("|---|" + "---|" * (len(temperatures) + 1))
    for student in students:
        row = [spread(runs.values()) for runs in [*cells[student], alone[student]]]
        lines.append(f"| {WIDTHS[student]} | {' | '.join(row)} |")
    return Findings(claims, lines, lambda path: _draw(path, temperatures, cells))


def _draw(path: Path, temperatures: list[float], cells: dict[str, list[Runs]]) -> None:
    """A heat map: each width's mean errors over the fewest of that width."""
    from experiments.figure import figure

    means = [[mean(runs.values()) if runs else float("nan") for runs in row] for row in cells.values()]
    relative = [[cell / min(row) for cell in row] for row in means]
    with figure(path, 7.2, 0.9 + 0.7 * len(cells)) as axes:
        drawn = axes.imshow(relative, cmap="viridis_r", aspect="auto")
        axes.set_xticks(range(len(temperatures)), [f"{each:g}" for each in temperatures])
        axes.set_yticks(range(len(cells)), [WIDTHS[student] for student in cells])
        axes.set_xlabel("temperature")
        dark = 1 + 0.6 * (max(map(max, relative)) - 1)
        for y, row in enumerate(cells.values()):
            for x, runs in enumerate(row):
                colour = "white" if relative[y][x] > dark else "black"
                axes.text(x, y, spread(runs.values()), ha="center", va="center", fontsize=8, color=colour)
        axes.figure.colorbar(drawn, ax=axes, label="errors / fewest\nof this width")


EXPERIMENT = Experiment(
    name=NAME,
    about="Hinton, Vinyals and Dean (2015), section 3: students of three widths by six temperatures, one teacher, "
    "no hard term.",
    steps=(sweep(NAME),),
    minutes={"short": 17, "full": 68},
    findings=findings,
)
