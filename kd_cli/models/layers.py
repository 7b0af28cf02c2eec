"""A network of fewer layers out of one of many: every other of them, as DistilBERT began (Sanh et al. 2019)."""

from typing import Any

from torch import nn

from kd_cli.errors import Phrase, must
from kd_cli.ranges import whole_number


def every(network: nn.Module, step: int) -> None:
    """Keep of a network of transformers the first layer and each `step`-th after it."""
    whole_number(".model.every", step, 1)
    if step == 1:
        return
    about: Any = network.config
    count = int(about.num_hidden_layers)
    stacks = [part for part in network.modules() if isinstance(part, nn.ModuleList) and len(part) == count > 1]
    if not stacks:
        raise must(
            ".model.every", "1 for a network whose layers are not known", Phrase(f"{step} of {about.model_type}")
        )
    for stack in stacks:
        kept = list(stack)[::step]
        del stack[:]
        stack.extend(kept)
    about.num_hidden_layers = len(range(0, count, step))
