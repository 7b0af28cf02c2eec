"""Data sets that are folders of images."""

from pathlib import Path

from PIL import Image

from kd_cli.cli.choices import CONFIGS


def choices(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")))


def folders(root: Path, classes: list[str], size: int, each: int = 3) -> None:
    for part in ("train", "test"):
        for number, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for k in range(each):
                shade = (40 * number + 7 * k + 3 * (part == "test")) % 256
                Image.new("L", (size, size), shade).save(root / part / name / f"{k}.png")


def image_folder(root: str, size: int) -> list[str]:
    return [
        "dataset=image_folder",
        f"dataset.root={root}",
        f"dataset.size={size}",
        "dataset.channels=1",
        "dataset.workers=0",
    ]
