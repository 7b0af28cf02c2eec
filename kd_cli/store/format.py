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
                got = Phrase(f"{str(root)!r}, which {_writer(found)} wrote")
                remedy = "Give another output_dir=<folder>, or move this one away: everything is made anew."
                raise ArtifactError.must("output_dir", f"a folder of format {FORMAT}", got, remedy)


def of_another_kd(folder: Path, found: object) -> ArtifactError:
    """Return the refusal of an artifact whose manifest has `found` as its format."""
    said = f"{folder} was made by {_writer(found)}, whose format this one does not read."
    return ArtifactError(said, "Make it anew in another output_dir=<folder>.")


def _writer(found: object) -> str:
    return "an earlier kd" if found is None else "another kd"
