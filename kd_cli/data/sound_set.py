"""A data set of sound files: read, split by file, and labelled as whole sounds or frame by frame."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kd_cli.data.alignment import Alignment, read_alignment
from kd_cli.data.heard import Frames, Origin, Recordings
from kd_cli.data.hearing import Hearing
from kd_cli.data.layout import File
from kd_cli.data.listening import hear_all
from kd_cli.data.samples import UNLABELLED, Dataset, Split, Votes
from kd_cli.data.splits import assemble
from kd_cli.errors import DataError, must
from kd_cli.progress import log

Parts = dict[str, Split]


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
            hint = "Frames have dataset.context=10."
            raise must(".dataset.alignments", "null for whole sounds", self.alignments, hint)


def sound_set(
    name: str,
    parts: Mapping[str, Sequence[File]],
    classes: Sequence[str],
    asked: Asked,
    apart: Callable[[Parts], Parts],
    seed: int,
) -> Dataset:
    """Return the data set of the files of `parts`, of which `apart` sets apart what is missing, by whole files: all
    frames of a sound are in one split. Everything is read before any work, so that bad files are named.
    """
    alignment = read_alignment(asked.alignments) if asked.alignments is not None else None
    if alignment is not None:
        parts = {part: _aligned(part, files, alignment) for part, files in parts.items()}
    every = [file for files in parts.values() for file in files]
    heard = hear_all(
        [(file.name, file.path) for file in every], asked.hearing, Path(asked.cache) if asked.cache else None
    )
    _say_cut(heard.lengths, asked.hearing)
    labels, start, splits = torch.tensor([file.label for file in every]), 0, {}
    for part, files in parts.items():
        chosen = torch.arange(start, start + len(files))
        start += len(files)
        if files:
            samples = Recordings(heard, chosen, asked.hearing, asked.mask)
            splits[part] = Split(samples, labels[chosen], torch.arange(len(files)))
    for part in ("train", "test"):
        if part in parts and part not in splits:
            raise DataError(f"{name} has no {part} sounds.")
    splits = apart(splits)
    if asked.hearing.context is not None:
        if alignment is None:
            shares = torch.eye(len(classes))
        else:
            shares, classes = _shares(splits["train"], alignment, len(classes)), alignment.states
        splits = {part: _cut(split, alignment, shares) for part, split in splits.items()}
    spec = splits["train"].samples.spec
    held_out = splits.get("validation", 0)
    return assemble(name, splits["train"], splits["test"], classes, spec, held_out, seed, splits.get("transfer"))


def _aligned(part: str, files: Sequence[File], alignment: Alignment) -> Sequence[File]:
    kept = [file for file in files if file.path.name in alignment.segments]
    if len(kept) < len(files):
        log.info("%s: %d of %d sounds are in no alignment and are left out", part, len(files) - len(kept), len(files))
    return kept


def _say_cut(lengths: Tensor, hearing: Hearing) -> None:
    if hearing.context is None and (cut := int((lengths >= hearing.shape[-1]).sum())):
        said = "%d of %d sounds are as long as dataset.seconds=%g or longer, and cut there"
        log.info(said, cut, len(lengths), hearing.seconds)


def _cut(split: Split, alignment: Alignment | None, shares: Tensor) -> Split:
    """The frames of a split's sounds, each with its label, and with its vote on what the sound is."""
    recordings = split.samples
    assert isinstance(recordings, Recordings)
    place, frame, labels = _frames(split, alignment)
    file, lengths = recordings.file[place], recordings.heard.lengths
    first = (lengths.cumsum(0) - lengths)[file]
    ends = torch.stack([first, first + lengths[file] - 1])
    origin = Origin(recordings.heard.sha, file, frame)
    samples = Frames(recordings.heard.values, first + frame, ends, origin, recordings.hearing)
    return Split(samples, labels, torch.arange(len(labels)), Votes(file, split.labels[place], shares))


def _frames(split: Split, alignment: Alignment | None) -> tuple[Tensor, Tensor, Tensor]:
    """Which sound of the split each frame is of, its number in it, and its label; a frame in no state is left out."""
    recordings = split.samples
    assert isinstance(recordings, Recordings)
    found = []
    for place, (file, label) in enumerate(zip(recordings.file.tolist(), split.labels.tolist(), strict=True)):
        count = int(recordings.heard.lengths[file])
        labels, kept = torch.full((count,), label), torch.arange(count)
        if alignment is not None:
            labels = alignment.labels(recordings.names[place].rpartition("/")[2], count, recordings.hearing)
            kept = (labels != UNLABELLED).nonzero()[:, 0]
        found.append((torch.full_like(kept, place), kept, labels[kept]))
    one, two, three = (torch.cat(part) for part in zip(*found, strict=True))
    return one, two, three


def _shares(train: Split, alignment: Alignment, classes: int) -> Tensor:
    """Which part of the frames of each state are in sounds of each class: what the state says of the sound."""
    place, _, states = _frames(train, alignment)
    counts = torch.zeros(len(alignment.states), classes)
    counts.index_put_((states, train.labels[place]), torch.ones(len(states)), accumulate=True)
    return (counts + 1 / classes) / (counts.sum(1, keepdim=True) + 1)
