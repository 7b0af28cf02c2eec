"""What the samples of a split are called, and the classes of answers that come from elsewhere."""

from collections.abc import Sequence

from kd_cli.data.samples import Dataset, Split
from kd_cli.data.splits import same_form
from kd_cli.errors import must

SHOWN = 10


def names_of(split: Split) -> Sequence[str] | None:
    """Return the names of a split's samples (a file's path below the data set's folder), None where they have none."""
    names: Sequence[str] | None = getattr(split.samples, "names", None)
    return names


def called(split: Split) -> list[str]:
    """Return what a message calls each sample of a split: its name, or else its index."""
    names = names_of(split)
    return list(names) if names is not None else [str(number) for number in split.index.tolist()]


def list_of(names: Sequence[str], most: int = SHOWN) -> str:
    """Return the first of these names."""
    return ", ".join(names[:most]) + (f", … ({len(names):,} in all)" if len(names) > most else "")


def class_order(classes: Sequence[str] | None, dataset: Dataset) -> list[str]:
    """Return the classes of answers in their order, the data set's where none were given; ConfigError for others."""
    names = [same_form(str(name)) for name in classes or dataset.classes]
    if len(set(names)) != len(names):
        raise must(".classes", "a list without repetition", names)
    if missing := [name for name in dataset.classes if name not in names]:
        rule = f"a list that holds every class of dataset={dataset.name}"
        raise must(".classes", rule, names, f"Missing: {list_of(missing)}.")
    return names
