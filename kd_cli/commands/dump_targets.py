"""`kd dump-targets`."""

from omegaconf import DictConfig

from kd_cli.errors import must
from kd_cli.runs.run import Run
from kd_cli.steps.recipes import check_recipes
from kd_cli.steps.targets import obtain_targets, room
from kd_cli.steps.teacher import obtain, prepare
from kd_cli.steps.transfer import transfer_set


def main(cfg: DictConfig) -> None:
    """`kd dump-targets`."""
    check_recipes(cfg)
    run = Run(cfg)
    source, network = prepare(run)
    if source.online:
        raise must("teacher.online", "false for kd dump-targets", True, "An online teacher has nothing to dump.")
    transfer = transfer_set(cfg.transfer, run.dataset, online=False)
    room(run, transfer)
    run.accept()
    obtain_targets(run, obtain(run, source, network), transfer)
    run.finish({"environment": run.environment("32") | transfer.environment})
