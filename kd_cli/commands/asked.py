"""What result.json says of the input, and what determines a job whatever its artifacts are."""

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import kd_cli
from kd_cli.errors import KdError
from kd_cli.files.digests import id_of

# keys that change no result
EXECUTION = (
    "hydra", "output_dir", "device", "compile", "checkpoint", "evaluate", "rebuild", "trusted_modules", "sweep",
    "resume",
)  # fmt: skip


def asked(cfg: DictConfig) -> dict[str, Any]:
    """Return what result.json says of the input."""
    context = HydraConfig.get()
    return {
        "command": context.job.config_name.replace("_", "-"),
        "overrides": [short(word) for word in context.overrides.task if not word.startswith(("sweep.", "resume="))],
        "dataset": context.runtime.choices.get("dataset"),
        **{key: _value(cfg, key) for key in ("seed", "temperature", "soft_weight", "hard_weight")},
        "config": digest_of_job(cfg),
    }


def short(word: str) -> str:
    """Return an override in the short spelling: `student.model=cnn` of `model@student.model=cnn`, and with its sign."""
    key, equals, value = word.partition("=")
    name = key.lstrip("+~")
    return f"{key[: len(key) - len(name)]}{name.rpartition('@')[2]}{equals}{value}"


def _value(cfg: DictConfig, key: str) -> Any:
    """A value, or None where it refers to what is not there: the refusal says so."""
    try:
        return cfg.get(key)
    except OmegaConfBaseException:
        return None


def digest_of_job(cfg: DictConfig) -> str | None:
    """Return what determines the job but for the data's content: its config, equal for `temperature=4` and
    `temperature=4.0`, the sources of other people's `_target_`, and the versions of kd and its steps. None where that
    cannot be told.
    """
    from kd_cli.build.identity import identity_of
    from kd_cli.steps import bias_correction, dump, specialists, student, teacher  # import torch

    try:
        values: Any = OmegaConf.to_container(cfg, resolve=True)
        known = identity_of({key: value for key, value in values.items() if key not in EXECUTION})
    except (OmegaConfBaseException, KdError):
        return None
    steps = (teacher, specialists, dump, student, bias_correction)
    return id_of({"kd": kd_cli.__version__, "steps": [step.VERSION for step in steps], **known})
