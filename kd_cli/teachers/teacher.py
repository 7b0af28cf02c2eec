"""The teacher of a run, ready to be asked: a network, what answers in place of one, or several of these together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kd_cli.data.augment import Augment
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Split
from kd_cli.errors import under
from kd_cli.measure import prediction
from kd_cli.teachers.combination import Combination


class Answering(Protocol):
    """What answers for a teacher that has no network here."""

    @property
    def name(self) -> str | None:
        """What result.json calls it: a file's path, a service's address."""

    @property
    def top_k(self) -> int | None:
        """How many classes it tells at most of each sample, the rest being spread evenly; None where it tells all."""

    @property
    def labels(self) -> bool:
        """Whether it tells the best class alone."""

    @property
    def free(self) -> bool:
        """Whether it costs nothing to ask it again."""

    @property
    def as_they_are(self) -> bool:
        """Whether it knows the samples as they are alone, and no augmented view of them."""

    @property
    def allowed(self) -> float:
        """The share of a transfer set's samples that may go without an answer."""

    def check(self, split: Split) -> None:
        """Refuse, before any work, a transfer set that it cannot answer for."""

    def identity(self) -> dict[str, Any]:
        """Return what determines its answers, in plain values."""

    def untold(self, split: Split) -> str:
        """Return why it cannot be judged on this split; "" where it answers for every sample of it."""

    def predictions(
        self, split: Split, augment: Augment | Mix | None, augment_seed: int, view: int, positions: Tensor
    ) -> Iterator[Tensor]:
        """Return float32 logits `[n, classes]` for these positions of a split, in this order, block by block; a row of
        NaN for a sample that it gives no answer for.
        """


@dataclass(frozen=True)
class Teacher:
    """`identity` determines what it says. An ensemble has `members`, by their names, and their `combination`; of
    several artifacts, none is its `name`. `memory_format` is what its recipe asks for.

    `network` is None where a member or the whole has none: `answering` answers then, or the members do. `key` is where
    its config stands.
    """

    network: nn.Module | None
    identity: dict[str, Any]
    name: str | None
    online: bool
    members: Mapping[str, "Teacher"] = field(default_factory=dict)
    memory_format: str = "auto"
    combination: Combination | None = None
    answering: Answering | None = None
    key: str = "teacher"

    @property
    def labels(self) -> bool:
        """Whether it tells, wholly or in part, the best class alone: that is no distribution."""
        alone = self.answering is not None and self.answering.labels
        return alone or any(member.labels for member in self.members.values())

    @property
    def free(self) -> bool:
        """Whether it costs nothing to ask it again."""
        return self.answering is None or self.answering.free

    def untold(self, split: Split) -> str:
        """Return why it cannot be judged on this split; "" where it can."""
        if self.answering is not None:
            with under(self.key):
                return self.answering.untold(split)
        return next(filter(None, (member.untold(split) for member in self.members.values())), "")

    def predictions(
        self,
        split: Split,
        device: torch.device,
        augment: Augment | Mix | None = None,
        augment_seed: int = 0,
        view: int = 0,
        positions: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Tensor]:
        """Yield float32 logits `[n, classes]` on the CPU for these positions of a split (None: all) in a view of it,
        block by block. The one way in which a teacher is asked about samples of a split.
        """
        if self.network is not None:
            yield from prediction.predictions(
                self.network, split, device, augment, augment_seed, view, positions, batch_size
            )
            return
        chosen = torch.arange(len(split)) if positions is None else positions
        if self.answering is not None:
            with under(self.key):
                yield from self.answering.predictions(split, augment, augment_seed, view, chosen)
            return
        assert self.combination is not None
        seen = (split, device, augment, augment_seed, view, chosen, batch_size)
        members = [torch.cat(list(member.predictions(*seen))) for member in self.members.values()]
        yield self.combination(members, 1.0)

    def predict(
        self,
        split: Split,
        device: torch.device,
        augment: Augment | Mix | None = None,
        augment_seed: int = 0,
        view: int = 0,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Return what `predictions` gives as one tensor."""
        return torch.cat(list(self.predictions(split, device, augment, augment_seed, view, positions)))
