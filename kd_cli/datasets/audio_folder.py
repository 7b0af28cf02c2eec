"""Your own sounds: in folders named as splits and classes, or with a table or a pattern that says their classes."""

from dataclasses import replace

from kd_cli.data.apart import Apart
from kd_cli.data.hearing import Hearing
from kd_cli.data.labelling import labelled_layout
from kd_cli.data.layout import Kind, listed
from kd_cli.data.samples import Dataset
from kd_cli.data.sound_set import Asked, Parts, sound_set
from kd_cli.data.sounds import EXTENSIONS
from kd_cli.data.understood import understood
from kd_cli.errors import reading
from kd_cli.progress import log

SOUNDS = Kind("sound", EXTENSIONS)


def audio_folder(
    root: str,
    rate: int = 16000,
    features: str = "logmel",
    seconds: float = 1.0,
    context: int | None = None,
    mask: bool = False,
    bands: int = 40,
    coefficients: int = 13,
    window: float = 0.025,
    step: float = 0.01,
    centred: bool = False,
    alignments: str | None = None,
    labels: str | None = None,
    label: str | None = None,
    pattern: str | None = None,
    test: float | None = None,
    validation: float = 0,
    group: str | None = None,
    duplicates: str = "refuse",
    cache: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Return the data set below `root`; every file is decoded once, before any training, so that bad ones are named."""
    heard = Hearing(rate, features, seconds, context, bands, coefficients, window, step, centred)
    apart = Apart(test, validation, seed, group, duplicates)
    apart.check()
    asked = Asked(heard, mask, alignments, cache)
    with reading(root):
        layout = labelled_layout(root, SOUNDS, labels, label, pattern)
    if layout.others:
        some = listed([str(path) for path in layout.others])
        said = "%d file(s) below %s are no sounds by their names and are left out: %s"
        log.warning(said, len(layout.others), root, some)
    about: dict[str, object] = {}

    def split(parts: Parts) -> Parts:
        made, remarks = apart.split(parts, layout.classes)
        formats = (file.path.suffix.lower()[1:] for files in layout.parts.values() for file in files)
        about.update(understood(root, SOUNDS, layout, made, formats, str(heard), remarks))
        return made

    dataset = sound_set("audio_folder", layout.parts, layout.classes, asked, split, seed)
    return replace(dataset, about=about)
