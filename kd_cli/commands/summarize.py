"""`kd summarize`: the summary of a sweep again, from the files of its jobs alone. Never imports torch."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from kd_cli.errors import ArtifactError, must
from kd_cli.report.sweep import jobs_of, summarize
from kd_cli.table import surface


def main(cfg: DictConfig) -> None:
    """Prints the table on standard output. Raises ArtifactError where a job did not complete."""
    folder = Path(cfg.sweep)
    if not jobs_of(folder):
        raise must("sweep", "the folder of a sweep", str(cfg.sweep), "A sweep prints its folder at its end.")
    if not summarize(folder, surface(sys.stdout)):
        raise ArtifactError(f"Not every job of {folder} completed: run the sweep's command again.")
