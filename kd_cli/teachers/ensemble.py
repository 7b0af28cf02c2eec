"""A teacher of several networks: one recipe with differing seeds, or unlike ones, or stored ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from kd_cli.data.inputs import Inputs
from kd_cli.errors import must
from kd_cli.ranges import is_number, whole_number
from kd_cli.teachers.combination import RULES, Combination
from kd_cli.teachers.source import Answered, Single, Source
from kd_cli.teachers.trained import Trained


@dataclass(frozen=True, kw_only=True)
class Ensemble(Source):
    """`size` times `member`, with the seeds `seed`, `seed` + 1, …; or, where there are any, `members` by their names.

    A member whose weight is 0 is left out. Whether the teacher is online is said here, not by the members.
    """

    member: Source
    size: int = 5
    members: Mapping[str, Source] | None = None
    combine: str = "arithmetic"
    weights: Sequence[float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, value, least in (("size", self.size, 1), ("seed", self.seed, 0)):
            whole_number(f".{key}", value, least)
        if self.combine not in RULES:
            raise must(".combine", f"one of {', '.join(RULES)}", self.combine)
        for name, member in (self.members or {}).items():
            if not isinstance(member, Single | Answered):
                raise must(f".members.{name}", "one network", type(member).__name__)
            if self.online and isinstance(member, Answered):
                raise must(".online", f"false with the member {name}, which has no network", self.online)
        if not self.members and not isinstance(self.member, Trained):
            hint = "Others are listed: 'teacher.members=[outputs/teachers/<id>,outputs/teachers/<id>]'."
            raise must(".member", "a teacher that kd trains, from a seed", type(self.member).__name__, hint)
        count = len(self.members or ()) or self.size
        if self.weights is not None and not _fit(self.weights, count):
            raise must(".weights", f"null or a list of {count} numbers ≥ 0, not all of them 0", self.weights)

    def sources(self) -> dict[str, tuple[str, Single | Answered]]:
        """Return each member, by its name, and the key of its config."""
        every: dict[str, tuple[str, Single | Answered]] = {}
        if self.members:
            every |= {
                name: (f"members.{name}", each)
                for name, each in self.members.items()
                if isinstance(each, Single | Answered)
            }
        elif isinstance(self.member, Trained):
            seeds = range(self.seed, self.seed + self.size)
            every |= {str(seed): ("member", replace(self.member, seed=seed)) for seed in seeds}
        weights = self.weights or [1] * len(every)
        return {name: each for (name, each), weight in zip(every.items(), weights, strict=True) if weight > 0}

    def combination(self) -> Combination:
        """Return the rule for the members of `sources`."""
        weights = [weight for weight in self.weights or [1] * len(self.sources()) if weight > 0]
        return Combination(self.combine, tuple(weight / math.fsum(weights) for weight in weights))


class Members(nn.Module):
    """The networks of an ensemble as one, their logits combined at `temperature`."""

    def __init__(self, networks: Sequence[nn.Module], combination: Combination, temperature: float = 1.0) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.combination, self.temperature = combination, temperature

    def forward(self, inputs: Inputs) -> Tensor:
        """Return float32 logits `[N, classes]`."""
        return self.combination([network(inputs).float() for network in self.networks], self.temperature)


def _fit(weights: object, count: int) -> bool:
    if not isinstance(weights, list | tuple) or len(weights) != count:
        return False
    numbers = all(is_number(weight) and weight >= 0 for weight in weights)
    return numbers and any(weights)
