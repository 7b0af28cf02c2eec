"""Soft targets as regularisers: how few images they need."""

from pathlib import Path
from statistics import mean

from experiments.claims import Runs, agrees, alike, smaller, spread
from experiments.experiment import Experiment, Findings, Results, sweep

PLAIN, EARLY = "regularisers", "regularisers_early"
FRACTION = "transfer.fraction"
# name of the arm: sweep, role
ARMS = {
    "hard labels": (PLAIN, "baseline"),
    "hard labels, stopped early": (EARLY, "baseline"),
    "soft targets": (PLAIN, "student"),
    "soft targets, stopped early": (EARLY, "student"),
}


def findings(results: Results) -> Findings:
    """Table 5's comparisons at 3 % of the data, and all fractions."""

    def runs(arm: str, fraction: float, figure: str) -> Runs:
        sweep_name, role = ARMS[arm]
        return results.runs(sweep_name, f"{role}_{figure}", {FRACTION: fraction})

    def overfit(arm: str) -> Runs:
        train, test = (runs(arm, 0.03, figure) for figure in ("train_accuracy", "accuracy"))
        return {seed: 100 * (train[seed] - test[seed]) for seed in train.keys() & test.keys()}

    hard, early, soft, soft_early = (runs(arm, 0.03, "errors") for arm in ARMS)
    everything = runs("hard labels", 1.0, "errors")
    seeds = early.keys() & soft.keys() & everything.keys()
    seeds = {seed for seed in seeds if early[seed] > everything[seed]}
    closed = {seed: 100 * (early[seed] - soft[seed]) / (early[seed] - everything[seed]) for seed in seeds}
    better, apart = "57.0 against 44.5 % right", overfit("hard labels")
    claims = [
        smaller("3 % of the data: soft targets make fewer errors than hard labels", better, soft, hard),
        smaller("… and than hard labels stopped early", better, soft, early),
        smaller(
            "… their training and test accuracy lie closer (points)", "8.4 against 22.8", overfit("soft targets"), apart
        ),
        alike(
            "… they need no early stopping: with and without it the errors are alike", "not needed", soft, soft_early
        ),
        agrees("… share of the errors that all the data would spare hard labels (stopped early), %", 87, closed),
    ]
    fractions = sorted({float(job[FRACTION]) for job in results.jobs(PLAIN)})
    if not fractions:
        return Findings(claims, [])

    def cell(arm: str, fraction: float) -> str:
        both = (runs(arm, fraction, figure).values() for figure in ("train_accuracy", "accuracy"))
        return " / ".join(spread((100 * value for value in values), ".2f") for values in both)

    lines = ["| train / test accuracy, % | " + " | ".join(ARMS) + " |", "|---|" + "---|" * len(ARMS)]
    lines += [f"| {each:.1%} | {' | '.join(cell(arm, each) for arm in ARMS)} |" for each in fractions]
    lines += ["", "The training accuracy is that of the transfer set's samples as the last (or best) epoch met them."]
    curves = {arm: [runs(arm, fraction, "accuracy") for fraction in fractions] for arm in ARMS}
    return Findings(claims, lines, lambda path: _draw(path, fractions, curves))


def _draw(path: Path, fractions: list[float], curves: dict[str, list[Runs]]) -> None:
    """Test errors in per cent over the fraction of the images."""
    from experiments.figure import figure

    with figure(path) as axes:
        for (arm, points), style in zip(curves.items(), ("s-C1", "s:C1", "o-C0", "o:C0"), strict=True):
            shown = [
                (x, [100 * (1 - value) for value in runs.values()]) for x, runs in zip(fractions, points, strict=True)
            ]
            shown = [(x, values) for x, values in shown if values]
            if not shown:
                continue
            axes.plot([x for x, _ in shown], [mean(values) for _, values in shown], style, label=arm, markersize=5)
            for x, values in shown:
                axes.plot([x] * len(values), values, "." + style[-2:], alpha=0.4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(fractions, [f"{100 * each:g} %" for each in fractions])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("share of the training images that student and baseline see")
        axes.set_ylabel("test errors, %")
        ticks = [each for each in (1, 2, 3, 5, 10, 15, 20, 30, 50) if axes.get_ylim()[0] <= each <= axes.get_ylim()[1]]
        axes.set_yticks(ticks, map(str, ticks))
        axes.set_yticks([], minor=True)
        axes.legend(frameon=False)


EXPERIMENT = Experiment(
    name=PLAIN,
    about="Hinton, Vinyals and Dean (2015), section 6 and table 5, on MNIST instead of speech, 2 × 300 units. "
    "The teacher saw all 60,000 images, student and baseline a stratified part of 59,000, drawn anew for each seed; by "
    "the other 1,000 the epoch is chosen where a training is stopped early. Every training shows as many images.",
    steps=(
        sweep(PLAIN, teacher_of="teachers_mnist"),
        sweep(PLAIN, "student.train.select=best_validation", name=EARLY, teacher_of="teachers_mnist"),
    ),
    minutes={"short": 14, "full": 55},
    findings=findings,
)
