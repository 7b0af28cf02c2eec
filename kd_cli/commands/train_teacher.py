"""`kd train-teacher`."""

from omegaconf import DictConfig

from kd_cli.runs.run import Run
from kd_cli.steps.recipes import check_recipes
from kd_cli.steps.specialists import specialists_figures
from kd_cli.steps.teacher import obtain, of_members, prepare


def main(cfg: DictConfig) -> None:
    """`kd train-teacher`."""
    check_recipes(cfg)
    run = Run(cfg)
    source, network = prepare(run)
    run.accept()
    teacher = obtain(run, source, network)
    evaluation = run.evaluate(teacher.network, teacher.identity)
    more = of_members(run, teacher) | specialists_figures(run, teacher.network, evaluation.logits)
    precisions = dict.fromkeys(run.precision.values())
    run.finish(
        {
            "teacher": {**evaluation.figures, **more, "artifact": teacher.name},
            "environment": run.environment(", ".join(precisions) or "32"),
        }
    )
