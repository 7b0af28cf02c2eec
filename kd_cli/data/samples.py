"""The values that travel between the parts: samples, splits, data sets, batches, answers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from inspect import signature
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from kd_cli.data.inputs import Inputs, rows
from kd_cli.data.spec import Spec
from kd_cli.errors import DataError

UNLABELLED = -1


class Samples(Protocol):
    """Samples that can be fetched by position, as they are stored."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    @property
    def spec(self) -> Spec:
        """What each of them is."""
        ...

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Inputs]:
        """Return the samples of each batch of positions (int64, on any device), in the order asked for, on `device`."""
        ...

    def checksums(self) -> Tensor:
        """CRC-32 of each sample's stored bytes, int64 `[N]`."""
        ...

    def select(self, positions: Tensor) -> "Samples":
        """Return the samples at these positions."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 over the stored bytes of all samples, in order."""
        ...


@dataclass(frozen=True)
class Votes:
    """What the samples of a split say together: those of one `whole`, as the frames of a sound, vote on what it is.

    The probability of a class goes to the answers by its row of `shares`, which sums to 1.
    """

    whole: Tensor  # int64 [N], its number, the same for the samples of one
    answer: Tensor  # int64 [N], what it is, the same for all of them
    shares: Tensor  # float32 [classes, answers]

    def select(self, positions: Tensor) -> "Votes":
        """Those of the samples at these positions."""
        return Votes(self.whole[positions], self.answer[positions], self.shares)


@dataclass(frozen=True)
class Split:
    """One part of a data set. `index` names each sample for good; `labels` has −1 where there is none; `votes` are
    there where samples are parts of something whole.
    """

    samples: Samples
    labels: Tensor  # int64 [N]
    index: Tensor  # int64 [N]
    votes: Votes | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> int:
        """Number of samples that have a label."""
        return int((self.labels != UNLABELLED).sum())

    def select(self, positions: Tensor) -> "Split":
        """Return the samples at these positions, keeping their index."""
        votes = self.votes.select(positions) if self.votes is not None else None
        return Split(self.samples.select(positions), self.labels[positions], self.index[positions], votes)

    def with_labels(self, labels: Tensor) -> "Split":
        """Return the same samples with other labels."""
        return replace(self, labels=labels)


@dataclass(frozen=True)
class Dataset:
    """A data set, split. `fingerprint` is a digest of the content of its splits; `about` is what was understood of
    files that somebody laid out, in plain values, for result.json.
    """

    name: str
    train: Split
    validation: Split | None
    transfer: Split
    test: Split
    classes: tuple[str, ...]
    spec: Spec
    fingerprint: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """DataError for a split whose samples are others than the data set's."""
        for split in (self.train, self.validation, self.transfer, self.test):
            if split is None or split.samples.spec == self.spec:
                continue
            if self.spec.kind == "image" == split.samples.spec.kind:
                found = f"its input_shape {list(self.spec.shape)}, got {list(split.samples.spec.shape)}"
                raise DataError(f"{self.name}: images must have {found}.")
            raise DataError(f"{self.name}: all samples must be {self.spec}, got {split.samples.spec}.")

    def arguments(self, constructor: Callable[..., Any]) -> dict[str, Any]:
        """Return what the constructor of a network is called with beside its own: what the Spec says, and `texts`, the
        samples of the training split, where it asks for what its tokenizer is trained on.
        """
        about = self.spec.arguments(constructor)
        with suppress(TypeError, ValueError):
            if "texts" in signature(constructor).parameters:
                about["texts"] = self.train.samples
        return about


class Answer(NamedTuple):
    """What a network says of a batch; of its features those that an objective needs."""

    logits: Tensor  # float32 [n, classes]
    features: Mapping[str, Tensor] = MappingProxyType({})
    weight: Tensor | None = None  # float32 [n], mean 1, of a teacher that said nothing of some: theirs is 0

    def rows(self, chosen: slice) -> "Answer":
        """Return what it says of these samples."""
        weight = None if self.weight is None else self.weight[chosen]
        return Answer(self.logits[chosen], {name: value[chosen] for name, value in self.features.items()}, weight)


class Mixture(NamedTuple):
    """What each sample of a batch is mixed with. In it `Batch.labels`, which the train accuracy counts, are those of
    the sample itself.
    """

    partner_labels: Tensor  # int64 [n], −1 where unlabelled
    share: Tensor  # float32 [n] in [0, 1]: of the sample in the mixture, the partner has the rest


@dataclass(frozen=True)
class Batch:
    """What one step sees. The teacher's answer is absent in plain training, the mixture where nothing is mixed."""

    inputs: Inputs  # as a network is shown them
    labels: Tensor  # int64 [n], −1 where unlabelled
    teacher: Answer | None = None
    mixture: Mixture | None = None
    class_weights: Tensor | None = None  # float32 [classes], of the hard term
    mass: Tensor | None = None  # what the hard term is divided by, where this is a part of a larger batch

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: slice) -> "Batch":
        """Return these samples of it."""
        return replace(
            self,
            inputs=rows(self.inputs, chosen),
            labels=self.labels[chosen],
            teacher=None if self.teacher is None else self.teacher.rows(chosen),
            mixture=None if self.mixture is None else Mixture(*(value[chosen] for value in self.mixture)),
        )
