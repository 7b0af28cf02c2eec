"""How a command that trains begins: its data, its device, its folder."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kd_cli.build import own_code
from kd_cli.commands.asked import asked
from kd_cli.commands.family import strangers
from kd_cli.device import find_device, take_turns
from kd_cli.errors import must
from kd_cli.progress import log
from kd_cli.runs.circumstances import Circumstances
from kd_cli.runs.run import Run
from kd_cli.runs.session import Session
from kd_cli.screen import override
from kd_cli.steps.plan import Plan
from kd_cli.steps.setting import Setting
from kd_cli.train.devices import OneDevice


def begin(plan: Plan, session: Session) -> Setting:
    """Find the device and read the data; refuse what no run can be made with. Nothing is written yet."""
    context = HydraConfig.get()
    if in_sweep() and not session.shares:  # in a launcher's worker, beside others
        take_turns(OmegaConf.select(context, "job.num", throw_on_missing=False))  # not every launcher counts
    device = find_device(plan.device)
    run = Run(Path(context.runtime.output_dir), plan.output_dir, plan.rebuild)
    dataset = plan.dataset.load(session)
    if len(dataset.test) == 0:
        hint = f"As a transfer set, unlabelled: {override('transfer.dataset', dataset.name)}."
        raise must("dataset", f"one with labels and test {dataset.spec.noun}", dataset.name, hint)
    how = Circumstances(OneDevice(device), plan.compile, plan.every_epochs, plan.every_minutes, dataset.fingerprint)
    return Setting(dataset, plan.dataset.stored, how, run, session, plan.latency)


def accept(cfg: DictConfig, plan: Plan, setting: Setting) -> None:
    """Everything that was typed has been checked: the run's folder is from now on that of a run."""
    found = {"data_found": dict(setting.dataset.about)} if setting.dataset.about else {}
    setting.run.accept(asked(cfg) | {"data": setting.dataset_config} | found, plan.starts())
    if "line" in found.get("data_found", {}):
        log.info("%s", found["data_found"]["line"])
    own_code.log_own_modules()
    for sentence in strangers(cfg):
        log.info(sentence)


def in_sweep() -> bool:
    """Return whether this is a job among others."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)
