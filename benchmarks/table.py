"""What all benchmarks share: a table in Markdown, and the machine that it was measured on."""

import platform
from pathlib import Path

import torch

from kd_cli.device import device_name, instructions, native_bf16

CPU = torch.device("cpu")


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
    """Processor, what its kernels may use, threads and versions in one line."""
    used = f"{instructions(CPU)}, {'bf16' if native_bf16(CPU) else 'no bf16'}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{device_name(CPU)} ({used}), {threads} thread(s), {versions}"


def own_memory() -> float:
    """RssAnon of this process in MB; pages of mapped files do not count."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000
