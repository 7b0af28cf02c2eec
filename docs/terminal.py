"""Draws docs/figures/distill.svg, the last lines of a real `kd distill`; `make docs` runs it where that is absent."""

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 90
PICTURE = Path(__file__).parent / "figures" / "distill.svg"
# rich's own picture loads a font from elsewhere; a browser's own is as wide, because rich states each line's length.
FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<title>What kd distill prints</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath></defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def main() -> None:
    """Run `kd distill` in an empty folder, and draw its last lines: the table, the verdict and the run's folder."""
    kd = Path(sys.executable).with_name("kd")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([kd, "distill"], cwd=folder, capture_output=True, text=True, check=True, encoding="utf-8")
    lines = done.stderr.splitlines()
    last = lines[next(k for k, line in enumerate(lines) if line.startswith("┏")) - 1 :]
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text("$ kd distill", style="bold"))
    console.print(Text("…", style="dim"))
    for line in last:
        console.print(Text(line))
    console.print(Text(f"outputs/runs/{Path(done.stdout.strip()).name}"))
    svg = console.export_svg(title="kd distill", code_format=FRAME)
    svg = re.sub(r' clip-path="url\(#[\w-]+-line-\d+\)"', "", svg)  # it would cut what hangs below a line
    PICTURE.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
