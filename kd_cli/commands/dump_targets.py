"""`kd dump-targets`."""

from omegaconf import DictConfig

from kd_cli.commands.begin import accept, begin, in_sweep
from kd_cli.report.run import show_run
from kd_cli.runs.session import Session
from kd_cli.steps.plan import plan_of
from kd_cli.steps.targets import obtain_targets, room
from kd_cli.steps.teacher import check_answers, few_of, obtain_teacher, prepare
from kd_cli.steps.transfer import transfer_set


def main(cfg: DictConfig, session: Session) -> None:
    """Store the teacher's logits over the transfer set."""
    plan = plan_of(cfg)
    assert plan.transfer is not None
    assert plan.targets is not None
    setting = begin(plan, session)
    asked = prepare(plan.teacher, setting)
    transfer = transfer_set(plan.transfer, setting.dataset, False, session)
    check_answers(plan.teacher, asked, transfer)
    room(plan.targets, transfer, setting, few_of(asked))
    accept(cfg, plan, setting)
    obtain_targets(plan.targets, obtain_teacher(plan.teacher, asked, setting), transfer, setting)
    environment = setting.circumstances.environment("32") | transfer.environment
    show_run(setting.run.finish(environment=environment), in_sweep())
