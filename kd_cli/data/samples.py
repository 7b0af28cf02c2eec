"""The values that travel between the parts: images, splits, data sets, batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from kd_cli.errors import DataError

UNLABELLED = -1


def no_images(found: str) -> DataError:
    """The refusal of samples that are no images: divided by 255, as bytes are, they would mean something else."""
    return DataError(
        f"dataset must be one of uint8 images [channels, height, width], got {found}. Texts, tokens and features are "
        "not learnt from; store images as bytes from 0 to 255."
    )


class Images(Protocol):
    """Images that can be fetched by position, as uint8 `[n, channels, height, width]`."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        ...

    def stream(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        """The images of each batch of positions (int64, on any device), in the order asked for, on `device`."""
        ...

    def checksums(self) -> Tensor:
        """CRC-32 of each image's stored bytes, int64 `[N]`."""
        ...

    def select(self, positions: Tensor) -> "Images":
        """The images at these positions."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 over the stored bytes of all images, in order."""
        ...


@dataclass(frozen=True)
class Split:
    """One part of a data set. `index` names each sample for good; `labels` has −1 where there is none."""

    images: Images
    labels: Tensor  # int64 [N]
    index: Tensor  # int64 [N]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> int:
        """Number of samples that have a label."""
        return int((self.labels != UNLABELLED).sum())

    def select(self, positions: Tensor) -> "Split":
        """The samples at these positions, keeping their index."""
        return Split(self.images.select(positions), self.labels[positions], self.index[positions])

    def with_labels(self, labels: Tensor) -> "Split":
        """The same samples with other labels."""
        return replace(self, labels=labels)


@dataclass(frozen=True)
class Dataset:
    """A data set, split. `fingerprint` is a digest of the content of its splits."""

    name: str
    train: Split
    validation: Split | None
    transfer: Split
    test: Split
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]  # channels, height, width
    fingerprint: str

    def __post_init__(self) -> None:
        """DataError for what is no data set of images, all of one shape."""
        for split in (self.train, self.validation, self.transfer, self.test):
            if split is not None and not len(split.images.shape) == 3 == len(self.input_shape):
                raise no_images(f"samples of {list(split.images.shape)}")
            if split is not None and tuple(split.images.shape) != tuple(self.input_shape):
                found = list(split.images.shape)
                raise DataError(f"{self.name}: images must have its input_shape {list(self.input_shape)}, got {found}.")


@dataclass(frozen=True)
class Batch:
    """What one step sees. Images are float32 in [0, 1]; the teacher's logits are absent in plain training, the partners
    and their share where no images are mixed. In a mixture `labels`, which the train accuracy counts, are those of the
    sample itself.
    """

    images: Tensor  # [n, channels, height, width]
    labels: Tensor  # int64 [n], −1 where unlabelled
    teacher_logits: Tensor | None = None  # float32 [n, classes]
    partner_labels: Tensor | None = None  # int64 [n], −1 where unlabelled
    share: Tensor | None = None  # float32 [n] in [0, 1]: of the sample in the mixture, the partner has the rest
    class_weights: Tensor | None = None  # float32 [classes], of the hard term
    mass: Tensor | None = None  # what the hard term is divided by, where this is a part of a larger batch
