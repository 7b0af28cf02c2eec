"""The mutants: plausible mistakes in kd, each with the tests that must notice it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """In `file` the text `before`, which stands there once, becomes `after`. `why` says what excuses one that no test
    notices.
    """

    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    why: str = ""

    def made_in(self, root: Path) -> str:
        """The whole text of the mutated file."""
        text = (root / self.file).read_text("utf-8")
        if text.count(self.before) != 1:
            raise ValueError(f"{self.file} holds {self.before!r} {text.count(self.before)} times")
        return text.replace(self.before, self.after)


def mutants() -> list[Mutant]:
    """All of them, as the .toml files list them, one for each folder of the package."""
    lists = sorted(Path(__file__).parent.glob("*.toml"))
    listed = [each for path in lists for each in tomllib.loads(path.read_text("utf-8"))["mutant"]]
    return [Mutant(**{**each, "tests": tuple(each["tests"])}) for each in listed]
