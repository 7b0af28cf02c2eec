"""Where the configs lie, and what can be chosen from their groups. Imports neither hydra nor torch."""

from collections.abc import Iterable
from pathlib import Path

PACKAGED = Path(__file__).parents[1] / "configs"
CONFIGS = PACKAGED if PACKAGED.is_dir() else PACKAGED.parent.parent / "configs"


def choices(group: str, own: Iterable[Path] = ()) -> list[str]:
    """The files of a group by their names, those in a person's own folders of configs among them."""
    return sorted({path.stem for folder in (CONFIGS, *own) for path in (folder / group).glob("*.yaml")})
