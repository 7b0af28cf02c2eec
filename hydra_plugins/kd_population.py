"""The launcher of `hydra/launcher=population`.

Hydra takes launchers from the namespace package `hydra_plugins` alone, and imports all of it at every start: no torch.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf, open_dict

from kd_cli.build import own_code
from kd_cli.cli import schema
from kd_cli.cli.job import Job
from kd_cli.errors import ConfigError, KdError, must

OPTIMIZER = tuple(f"student.train.optimizer.{key}" for key in ("lr", "weight_decay", "momentum"))
MAY_DIFFER = ("temperature", "soft_weight", "hard_weight", "seed", "teacher.seed", *OPTIMIZER)
ALONE = "Leave out hydra/launcher=population to train one after the other."


class PopulationLauncher(BasicLauncher):
    """Runs the jobs as Hydra's own launcher does; the first that needs a student trains those of all jobs together."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuses jobs that are no population, and runs the others."""
        assert self.hydra_context is not None
        assert self.config is not None
        command = self.config.hydra.job.config_name
        if command not in ("distill", "sweep"):
            raise must("hydra/launcher", f"basic for kd {command.replace('_', '-')}", "population")
        loader = self.hydra_context.config_loader
        configs = [_task_config(loader.load_sweep_config(self.config, list(words))) for words in job_overrides]
        _refuse_unlike(configs)
        own_code.admit_named(True, configs)
        from kd_cli.steps.population import refuse  # imports torch

        assert isinstance(self.task_function, Job)
        session = self.task_function.session
        plans = list(_plans(configs))
        refuse(plans, session)
        session.population = plans
        try:
            return super().launch(job_overrides, initial_job_idx)  # type: ignore[no-any-return]
        finally:
            session.population = []


def _plans(configs: Sequence[DictConfig]) -> Iterator[Any]:
    """The plans of the jobs; one that will be refused is left to say so itself."""
    from kd_cli.steps.plan import plan_of  # imports torch

    for cfg in configs:
        with suppress(KdError):
            schema.check("distill", cfg)
            yield plan_of(cfg)


def _task_config(config: DictConfig) -> DictConfig:
    """What Hydra hands to the job."""
    config = deepcopy(config)
    with open_dict(config):
        del config["hydra"]
    return config


def _refuse_unlike(configs: Sequence[DictConfig]) -> None:
    first, *others = (dict(_dotted(OmegaConf.to_container(config, resolve=True))) for config in configs)
    for other in others:
        for key in [*first, *(key for key in other if key not in first)]:
            if first.get(key) != other.get(key) and key.removeprefix("objective.") not in MAY_DIFFER:
                raise ConfigError(
                    f"{key} must be the same in all jobs of a population, got {first.get(key)!r} and "
                    f"{other.get(key)!r}. These may differ: {', '.join(MAY_DIFFER)}. {ALONE}"
                )
    if first.get("compile"):
        raise must("compile", "false in a population", True, ALONE)


def _dotted(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict) or not node:
        yield prefix, node
        return
    for key, value in node.items():
        yield from _dotted(value, f"{prefix}.{key}" if prefix else str(key))
