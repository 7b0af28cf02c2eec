"""The command line: `kd <command> [key=value …]`."""

from kd_cli.cli.main import main, run

__all__ = ["main", "run"]
