"""Small data sets of texts for the tests: which of three subjects is a sentence about?"""

import csv
import random
from pathlib import Path

SUBJECTS = {
    "animal": ["dog", "cat", "horse", "cow", "mouse", "goat"],
    "food": ["bread", "cheese", "apple", "soup", "cake", "rice"],
    "tool": ["hammer", "saw", "drill", "wrench", "nail", "file"],
}
FILLING = ["the", "a", "was", "seen", "near", "old", "new", "there", "in", "house", "and", "with", "that", "one"]


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """(text, class), each text of its own length with two words of its class."""
    draw, found = random.Random(seed), []
    for k in range(count):
        name = list(SUBJECTS)[k % 3]
        words = draw.choices(FILLING, k=draw.randint(1, 9)) + draw.choices(SUBJECTS[name], k=2)
        draw.shuffle(words)
        found.append((" ".join(words), name))
    return found


def write(path: Path, rows: list[tuple[str, str]], names: tuple[str, str] = ("text", "label")) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        tabs = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {}
        csv.writer(file, **tabs).writerows([names, *rows])


def subjects(folder: Path) -> Path:
    """A folder with train.csv and test.csv."""
    folder.mkdir(exist_ok=True)
    write(folder / "train.csv", sentences(180, 1))
    write(folder / "test.csv", sentences(60, 2))
    return folder
