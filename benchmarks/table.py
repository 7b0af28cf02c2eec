"""What all benchmarks share: a table in Markdown, and how much memory a process takes."""

from pathlib import Path


class Table:
    """Rows under a title, printed as Markdown."""

    def __init__(self, title: str, columns: list[str]) -> None:
        self.lines = [f"\n{title}\n", f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]

    def add(self, name: str, *cells: str) -> None:
        """One row."""
        self.lines.append(f"| {name} | {' | '.join(cells)} |")

    def __str__(self) -> str:
        return "\n".join(self.lines)


def own_memory() -> float:
    """RssAnon of this process in MB; pages of mapped files do not count."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000
