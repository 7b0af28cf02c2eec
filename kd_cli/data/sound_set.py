"""A data set of sound files: read, heard, and labelled as whole sounds or frame by frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kd_cli.data.alignment import Alignment, read_alignment
from kd_cli.data.heard import Frames, Origin, WholeSounds, spec_of
from kd_cli.data.hearing import Hearing
from kd_cli.data.inputs import Inputs
from kd_cli.data.listening import Heard, listen
from kd_cli.data.resident import Resident
from kd_cli.data.samples import UNLABELLED, Dataset, Split, Votes
from kd_cli.data.splits import assemble, stratified
from kd_cli.errors import DataError, must
from kd_cli.progress import log
from kd_cli.ranges import is_number, number


@dataclass(frozen=True)
class Asked:
    """How sounds are heard, with a `mask` or not, and what frames are to be: the class of their sound, or the state
    that a file of `alignments` names. `cache` is the folder that keeps what was computed.
    """

    hearing: Hearing
    mask: bool = False
    alignments: str | None = None
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.mask and self.hearing.context is not None:
            raise must(".dataset.mask", "false where dataset.context is a number: frames are not padded", self.mask)
        if self.alignments is not None and self.hearing.context is None:
            raise must(
                ".dataset.alignments", "null for whole sounds", self.alignments, "Frames have dataset.context=10."
            )


Listed = Sequence[tuple[Path, int]]  # files with the number of their class


def sound_set(
    name: str, parts: Mapping[str, Listed], classes: Sequence[str], asked: Asked, validation: Split | float, seed: int
) -> Dataset:
    """The data set of `parts` (train, test, and where wanted validation and transfer). Everything is read before any
    work; a set of frames needs its validation as a part: the frames of one sound are in one split.
    """
    alignment = read_alignment(asked.alignments) if asked.alignments is not None else None
    if alignment is not None:
        parts = {part: _aligned(part, files, alignment) for part, files in parts.items()}
    paths = [path for files in parts.values() for path, _ in files]
    heard = listen(paths, asked.hearing, Path(asked.cache) if asked.cache is not None else None)
    _say(heard, asked.hearing)
    labels = torch.tensor([label for files in parts.values() for _, label in files])
    split_of = _Whole(heard, labels, asked) if asked.hearing.context is None else _Cut(
        heard, labels, asked.hearing, len(classes), [path.name for path in paths], alignment
    )  # fmt: skip
    made, start = {}, 0
    for part, files in parts.items():
        if files:
            made[part] = torch.arange(start, start + len(files))
        start += len(files)
    for part in ("train", "test"):
        if part not in made:
            raise DataError(f"{name} has no {part} sounds.")
    splits = {part: split_of.split(chosen, made["train"]) for part, chosen in made.items()}
    names = classes if alignment is None else alignment.states
    held_out = splits.get("validation", validation)
    spec = splits["train"].samples.spec
    return assemble(name, splits["train"], splits["test"], names, spec, held_out, seed, splits.get("transfer"))


def set_apart(files: Listed, validation: object, seed: int) -> tuple[Listed, Listed]:
    """The rest and a stratified validation part: a fraction below 1, or a count from 1 on; none for 0."""
    key = ".dataset.validation"
    number(key, validation, at_least=0, below=len(files))
    assert is_number(validation)
    count = round(validation * len(files)) if validation < 1 else int(validation)
    if count == 0:
        return files, []
    held = set(stratified(torch.tensor([label for _, label in files]), count, seed).tolist())
    rest = [file for k, file in enumerate(files) if k not in held]
    if {label for _, label in rest} < {label for _, label in files}:
        raise must(key, "small enough to leave every class a sound", validation)
    return rest, [file for k, file in enumerate(files) if k in held]


def _aligned(part: str, files: Listed, alignment: Alignment) -> Listed:
    kept = [(path, label) for path, label in files if path.name in alignment.segments]
    if len(kept) < len(files):
        log.info("%s: %d of %d sounds are in no alignment and are left out", part, len(files) - len(kept), len(files))
    return kept


def _say(heard: Heard, hearing: Hearing) -> None:
    if hearing.context is None and (cut := int((heard.lengths >= hearing.shape[-1]).sum())):
        log.info("%d of %d sounds are as long as dataset.seconds=%g or longer, and cut there", cut, len(heard.sha),
                 hearing.seconds)  # fmt: skip


@dataclass(frozen=True)
class _Whole:
    heard: Heard
    labels: Tensor
    asked: Asked

    def split(self, files: Tensor, train: Tensor) -> Split:
        """The split of these files."""
        spec = spec_of(self.asked.hearing, self.asked.mask)
        values: Inputs = self.heard.values[files]
        if spec.parts:
            values = {"sound": values, "mask": masked(self.heard.lengths[files], spec.shape)}
        origin = Origin(self.heard.sha, files, torch.zeros(len(files), dtype=torch.int64))
        samples = WholeSounds(Resident(values, spec), origin)
        return Split(samples, self.labels[files], torch.arange(len(files)))


def masked(lengths: Tensor, shape: tuple[int, ...]) -> Tensor:
    """1 where a sound of so much is, 0 where it is padded; uint8 `[N, *shape]`."""
    there = (torch.arange(shape[-1]) < lengths[:, None]).to(torch.uint8)
    return there.view(len(lengths), *[1] * (len(shape) - 1), shape[-1]).expand(-1, *shape).contiguous()


@dataclass(frozen=True)
class _Cut:
    heard: Heard
    labels: Tensor
    hearing: Hearing
    classes: int
    names: Sequence[str]
    alignment: Alignment | None

    def split(self, files: Tensor, train: Tensor) -> Split:
        """The split of the frames of these files; what a state says of the sound is counted in those of `train`."""
        file, frame, labels = self._frames(files)
        lengths = self.heard.lengths
        first = (lengths.cumsum(0) - lengths)[file]
        ends = torch.stack([first, first + lengths[file] - 1])
        origin = Origin(self.heard.sha, file, frame)
        samples = Frames(self.heard.values, first + frame, ends, origin, self.hearing)
        votes = Votes(file, self.labels[file], self._shares(train))
        return Split(samples, labels, torch.arange(len(labels)), votes)

    def _frames(self, files: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """File, number in it and label of each frame that has one."""
        found = []
        for k in files.tolist():
            count = int(self.heard.lengths[k])
            labels = torch.full((count,), int(self.labels[k]))
            if self.alignment is not None:
                labels = self.alignment.labels(self.names[k], count, self.hearing)
            kept = (labels != UNLABELLED).nonzero()[:, 0] if self.alignment is not None else torch.arange(count)
            found.append((torch.full_like(kept, k), kept, labels[kept]))
        file, frame, labels = (torch.cat(part) for part in zip(*found, strict=True))
        return file, frame, labels

    def _shares(self, train: Tensor) -> Tensor:
        """Which part of the frames of each class are in sounds of each answer."""
        if self.alignment is None:
            return torch.eye(self.classes)
        file, _, states = self._frames(train)
        counts = torch.zeros(len(self.alignment.states), self.classes)
        counts.index_put_((states, self.labels[file]), torch.ones(len(states)), accumulate=True)
        return (counts + 1 / self.classes) / (counts.sum(1, keepdim=True) + 1)
