"""`kd train-teacher`."""

from omegaconf import DictConfig

from kd_cli.commands.begin import accept, begin, in_sweep
from kd_cli.commands.judge import judge_teacher
from kd_cli.progress import log
from kd_cli.report.run import show_run
from kd_cli.runs.session import Session
from kd_cli.steps.plan import plan_of
from kd_cli.steps.teacher import obtain_teacher, prepare


def main(cfg: DictConfig, session: Session) -> None:
    """Train the teacher, or find it, and evaluate it on the test split."""
    plan = plan_of(cfg)
    setting = begin(plan, session)
    asked = prepare(plan.teacher, setting)
    accept(cfg, plan, setting)
    teacher = obtain_teacher(plan.teacher, asked, setting)
    untold = teacher.untold(setting.dataset.test)
    if untold:
        log.info("the teacher is not judged: %s", untold)
    figures = None if untold else judge_teacher(teacher, setting)[0]
    precisions = dict.fromkeys(setting.run.precision.values())
    environment = setting.circumstances.environment(", ".join(precisions) or "32")
    show_run(setting.run.finish(teacher=figures, environment=environment), in_sweep())
