"""Recordings of spoken digits, `<digit>_<speaker>_<index>.wav`, as the Free Spoken Digit Dataset has them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kd_cli.data.apart import Apart
from kd_cli.data.hearing import Hearing
from kd_cli.data.layout import File
from kd_cli.data.samples import Dataset
from kd_cli.data.sound_set import Asked, sound_set
from kd_cli.errors import DataError, Phrase, did_you_mean, must, reading
from kd_cli.ranges import is_whole

NAME = re.compile(r"(\d)_(\w+)_(\d+)\.wav", re.IGNORECASE)
TEST_BELOW = 5  # the official test split has the indices 0 to 4 of each digit and speaker
NEXT = "next"  # of the speakers, to the one who is tested


class Take(NamedTuple):
    """A recording, labelled by its digit."""

    file: File
    speaker: str
    number: int


def spoken_digits(
    root: str,
    test: str | int | Sequence[str] = "official",
    validation: float | str | Sequence[str] = 0,
    rate: int = 8000,
    features: str = "logmel",
    seconds: float = 1.0,
    context: int | None = None,
    mask: bool = False,
    bands: int = 40,
    coefficients: int = 13,
    window: float = 0.025,
    step: float = 0.01,
    centred: bool = True,
    alignments: str | None = None,
    cache: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Return the data set in `root`, or in its folder `recordings`. `test` and `validation` may name speakers: all that
    they say is then in that split, and nothing of it in another. A number is the speaker of that number, in the order
    of their names; `next` is the one after the one who is tested.
    """
    asked = Asked(
        Hearing(rate, features, seconds, context, bands, coefficients, window, step, centred), mask, alignments, cache
    )  # fmt: skip
    takes = _takes(root)
    speakers = sorted({take.speaker for take in takes})
    tested = [] if test == "official" else _named(".dataset.test", test, speakers, "official, a number of one, or ")
    if validation == NEXT:
        if len(tested) != 1:
            raise must(".dataset.validation", "another where dataset.test names no single speaker", validation)
        validation = speakers[(speakers.index(tested[0]) + 1) % len(speakers)]
    share = validation if isinstance(validation, int | float) else None
    by_speaker = share is None
    held = _named(".dataset.validation", validation, speakers, f"a share, a count, {NEXT}, or ") if by_speaker else []
    if both := sorted(set(tested) & set(held)):
        raise must(".dataset.validation", "other speakers than dataset.test", ", ".join(both))

    def part_of(take: Take) -> str:
        if take.speaker in held:
            return "validation"
        return "test" if (take.speaker in tested if tested else take.number < TEST_BELOW) else "train"

    names = ("train", "validation", "test") if by_speaker else ("train", "test")
    parts = {part: [take.file for take in takes if part_of(take) == part] for part in names}
    classes = [str(k) for k in range(10)]
    apart = Apart(validation=share or 0, seed=seed)
    apart.check()
    return sound_set("spoken_digits", parts, classes, asked, lambda made: apart.split(made, classes)[0], seed)


def _takes(root: str) -> list[Take]:
    """The recordings, in the order of their names."""
    with reading(root):
        folder = Path(root) / "recordings" if (Path(root) / "recordings").is_dir() else Path(root)
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = [(name, NAME.fullmatch(name)) for name in names if name.lower().endswith(".wav")]
    if bad := [name for name, fits in found if fits is None]:
        shown = ", ".join(bad[:10]) + (", …" if len(bad) > 10 else "")
        raise DataError(f"{folder} must hold files called <digit>_<speaker>_<index>.wav, got {shown}.")
    if not found:
        hint = "Give another {}=<folder>."
        got = Phrase(f"{root!r}, which holds none")
        rule = "a folder with files <digit>_<speaker>_<index>.wav, or with recordings/ that has them"
        raise DataError.must(".dataset.root", rule, got, hint, ".dataset.root")
    return [
        Take(File(folder / name, name, int(fits[1])), fits[2], int(fits[3])) for name, fits in found if fits is not None
    ]


def _named(key: str, value: object, speakers: Sequence[str], more: str) -> list[str]:
    """These speakers, each of whom is there, and not all of them."""
    if is_whole(value, 0):
        value = speakers[int(str(value)) % len(speakers)]
    wanted = (
        [str(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else [str(value)]
    )
    rule = f"{more}speakers: {', '.join(speakers)}"
    for each in wanted:
        if each not in speakers:
            raise must(key, rule, each, did_you_mean(each, speakers))
    if not wanted or len(set(wanted)) == len(speakers):
        raise must(key, f"{rule}; not all of them", Phrase(str(wanted)))
    return wanted
