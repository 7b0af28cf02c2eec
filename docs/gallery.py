"""The gallery: a card for each experiment, made of the comments on top of its file."""

import re
from pathlib import Path

from kd_cli.cli.choices import CONFIGS, choices

FIGURES = Path(__file__).parent / "figures"
HEADING = """# Gallery

An experiment is a file of `configs/experiment/`. What it was run with, and what came out, stands on top of it;
this page is made of that. `kd sweep experiment=<name> --help` lists its keys. The paper's claims, each
with a verdict, are on [a page of their own](paper.md).
"""


def gallery() -> str:
    """Return the page of all experiments."""
    return "\n".join([HEADING, *(_card(name) for name in choices("experiment"))])


def _card(name: str) -> str:
    lines = (CONFIGS / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    top = [line[2:] for line in lines if line.startswith("# ") and "@package" not in line]
    card, block = [f"## {name}", ""], False
    for line in top:
        if line.startswith("  ") != block:
            block = not block
            card += ["", "```"] if block else ["```", ""]
        if not block and line.startswith(("Here", "Paper", "Published", "Not ")):
            card.append("")
        card.append(line[2:] if block else re.sub(r"(?<=[\w.])[@_](?=\w)|\$\{", r"\\\g<0>", line).replace("<", "&lt;"))
    if block:
        card.append("```")
    if (FIGURES / f"{name}.png").is_file():
        card += ["", f"![{name}](figures/{name}.png)"]
    return "\n".join([*card, ""])
