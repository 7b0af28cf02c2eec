"""How the logits of several networks become those of one teacher."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

RULES = ("arithmetic", "geometric")


@dataclass(frozen=True)
class Combination:
    """Hinton, Vinyals and Dean (2015, section 5): the soft targets are the arithmetic mean of the members' softened
    probabilities p_m = softmax(v_m / T), which minimises Σ w_m KL(p_m ‖ q), or their geometric mean, which minimises
    Σ w_m KL(q ‖ p_m). `weights`, one a member, sum to 1.
    """

    rule: str
    weights: tuple[float, ...]

    def __call__(self, logits: Sequence[Tensor], temperature: float) -> Tensor:
        """The v `[n, classes]` whose softmax(v / T) is the mean, from each member's logits `[n, classes]`."""
        if self.rule == "geometric":
            return torch.stack([weight * v for weight, v in zip(self.weights, logits, strict=True)]).sum(0)
        softened = [
            torch.log_softmax(v / temperature, 1) + math.log(weight)
            for weight, v in zip(self.weights, logits, strict=True)
        ]
        return temperature * torch.stack(softened).logsumexp(0)

    def identity(self, temperature: float | None) -> dict[str, Any]:
        """Return all of it that determines the result for given logits. A mean of logits serves every temperature."""
        about: dict[str, Any] = {"rule": self.rule, "weights": list(self.weights)}
        return about if self.rule == "geometric" else about | {"temperature": temperature}
