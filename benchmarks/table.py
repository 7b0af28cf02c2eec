"""What all benchmarks share: a table in Markdown, and the machine that it was measured on."""

import platform
import re
from pathlib import Path

import torch


class Table:
    """Rows under a title, printed as Markdown."""

    def __init__(self, title: str, columns: list[str]) -> None:
        self.lines = [f"\n{title}\n", f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]

    def add(self, name: str, *cells: str) -> None:
        """One row."""
        self.lines.append(f"| {name} | {' | '.join(cells)} |")

    def __str__(self) -> str:
        return "\n".join(self.lines)


def hardware(threads: int) -> str:
    """Processor, threads and versions in one line."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text("utf-8")) if info.is_file() else None
    processor = found[1] if found else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{processor} ({capability}), {threads} thread(s), {versions}"


def own_memory() -> float:
    """RssAnon of this process in MB; pages of mapped files do not count."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000
