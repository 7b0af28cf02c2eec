"""Where the configs lie, and what can be chosen from their groups. Imports neither hydra nor torch, nor yaml: help is
to be there at once.
"""

import re
from collections.abc import Iterable
from pathlib import Path

PACKAGED = Path(__file__).parents[1] / "configs"
CONFIGS = PACKAGED if PACKAGED.is_dir() else PACKAGED.parent.parent / "configs"


def choices(group: str, own: Iterable[Path] = ()) -> list[str]:
    """Return the files of a group by their names, those in a person's own folders of configs among them."""
    return sorted({path.stem for folder in (CONFIGS, *own) for path in (folder / group).glob("*.yaml")})


def suited(group: str, dataset: str) -> str:
    """Return what is chosen for `teacher` or `student` where nobody chooses: what the data set's file names at its top,
    as `# Without a choice: teacher=cnn student=cnn_small.`, or that of `digits`, as for a person's own data set.
    """
    named: dict[str, str] = {}
    for path in (CONFIGS / "dataset" / f"{name}.yaml" for name in ("digits", dataset)):
        if path.is_file():
            found = re.search(r"^# Without a choice: (.*)\.$", path.read_text("utf-8"), re.MULTILINE)
            named |= dict(word.split("=") for word in found[1].split()) if found else {}
    return named[group]
