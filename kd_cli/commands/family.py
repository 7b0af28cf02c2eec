"""Whether a network is trained by a recipe that was made for another kind of network. Never imports torch."""

import re
from collections.abc import Iterator
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf


def strangers(cfg: DictConfig) -> Iterator[str]:
    """Yield a sentence for each model that was chosen in place of its recipe's, and is of another family."""
    context = HydraConfig.get()
    choices = {key: str(name) for key, name in context.runtime.choices.items()}
    chosen = [key.partition("@")[2] for key in choices if key.startswith("model@")]
    if not any("model" in word for word in context.overrides.task) or not GlobalHydra.instance().is_initialized():
        return
    recipes = [f"{key}={name}" for key, name in choices.items() if re.fullmatch(r"student|teacher(@.+)?", key)]
    try:
        own = GlobalHydra.instance().config_loader().load_configuration(
            context.job.config_name, [word for word in recipes if "members" not in word], RunMode.RUN
        )  # fmt: skip
    except HydraException:  # one that must be given its model has no recipe
        return
    for place in chosen:
        owner = place.removesuffix(".model")
        if any(word.lstrip("+").startswith(f"recipe@{owner}.train=") for word in context.overrides.task):
            continue  # another recipe than its own
        recipe = choices.get(owner if "." not in owner else f"teacher@{owner}")
        made_for, trained = family(OmegaConf.select(own, place)), family(OmegaConf.select(cfg, place))
        if recipe and made_for and trained and made_for != trained:
            yield (
                f"{place} is of the family {trained}, and trained by the recipe of {owner}={recipe}, which was made "
                f"for {made_for}: its epochs, optimizer and learning rate may not suit"
            )


def family(model: Any) -> str | None:
    """`mlp`, `resnet`, `wrn`, …; of torchvision's models the beginning of their name. None for what is no model."""
    if not isinstance(model, DictConfig) or OmegaConf.is_missing(model, "_target_") or "_target_" not in model:
        return None
    target = str(model._target_)
    if target == "kd_cli.models.pretrained.torchvision":
        name = re.match("[a-z]+", str(model.name))
        return f"torchvision.{name.group() if name else model.name}"
    return target.removeprefix("kd_cli.models.").rpartition(".")[2] if target.startswith("kd_cli.models.") else target
