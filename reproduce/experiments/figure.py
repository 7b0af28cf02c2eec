"""How a figure is begun and kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes

matplotlib.use("agg")


@contextmanager
def figure(path: Path, width: float = 6.4, height: float = 3.8) -> Iterator[Axes]:
    """One plot of this many inches, written to `path`, free of dates so that equal figures are equal files."""
    drawn, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(drawn)
