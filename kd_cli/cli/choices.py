"""Where the configs lie, and what can be chosen from their groups. Imports neither hydra nor torch, nor yaml: help is
to be there at once.
"""

import re
from collections.abc import Iterable
from pathlib import Path

PACKAGED = Path(__file__).parents[1] / "configs"
CONFIGS = PACKAGED if PACKAGED.is_dir() else PACKAGED.parent.parent / "configs"


def choices(group: str, own: Iterable[Path] = ()) -> list[str]:
    """The files of a group by their names, those in a person's own folders of configs among them."""
    return sorted({path.stem for folder in (CONFIGS, *own) for path in (folder / group).glob("*.yaml")})


def suited(group: str, dataset: str) -> str:
    """What a data set names in configs/suited/ for a group where nobody chose: `teacher` or `student`. Where it names
    nothing, as a person's own, it is what `digits` names.
    """
    files = [CONFIGS / "suited" / f"{name}.yaml" for name in (dataset, "digits")]
    text = next(path for path in files if path.is_file()).read_text("utf-8")
    return dict(re.findall(r"^(\w+): (\w+)$", text, re.MULTILINE))[group]
