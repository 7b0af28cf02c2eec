"""The format of what the store holds: another one is refused by name, nothing of it is read."""

from contextlib import suppress
from itertools import islice
from pathlib import Path

from kd_cli.errors import ArtifactError, Phrase
from kd_cli.files.digests import unsealed

MANIFEST = "manifest.json"
FORMAT = 1  # of a manifest, and of what it names


def expect_format(root: Path) -> None:
    """Raise ArtifactError for an output folder whose artifacts another kd wrote, in a format that this one does not
    read.
    """
    for path in islice(root.glob(f"*/*/{MANIFEST}"), 1):
        with suppress(OSError, ValueError, AttributeError, RecursionError):  # damaged: said when it is read
            if (found := unsealed(path).get("format")) != FORMAT:
                raise of_another_kd(root, found)


def of_another_kd(folder: Path, found: object) -> ArtifactError:
    """Return the refusal of an output folder, or of an artifact, whose manifest has `found` as its format."""
    which = "an earlier" if found is None else "another"
    got = Phrase(f"{str(folder)!r}, which {which} kd wrote")
    remedy = "Give another output_dir=<folder>, or move this one away: everything is made anew."
    return ArtifactError.must("output_dir", f"a folder of format {FORMAT}", got, remedy)
