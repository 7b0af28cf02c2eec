"""Where and on what kd is started."""

import shlex
import subprocess
import sys
from pathlib import Path

from running import KD, environment, files_below


def test_a_folder_that_was_removed(tmp_path: Path) -> None:
    def there(*words: str) -> subprocess.CompletedProcess[str]:
        gone = tmp_path / "gone"
        gone.mkdir()
        line = f"cd {shlex.quote(str(gone))} && rmdir {shlex.quote(str(gone))} && exec {shlex.join([str(KD), *words])}"
        return subprocess.run(["bash", "-c", line], env=environment(), capture_output=True, text=True)

    for command in ("distill", "list"):
        done = there(command, f"output_dir={tmp_path}/outputs")
        assert done.returncode == 1
        assert done.stderr == (
            "The folder that kd is started in must exist, but it was removed. Change to another one: cd <folder>.\n"
        )
    assert there("--help").returncode == there("--version").returncode == 0
    assert files_below(tmp_path) == []


def test_a_system_that_knows_no_sigusr1(tmp_path: Path) -> None:
    lines = (
        "import signal, sys",
        "del signal.SIGUSR1",
        "import kd_cli.train.checkpoint",
        "from kd_cli.cli.main import main",
    )
    line = "; ".join([*lines, "sys.argv = ['kd', '--help']", "main()"])
    done = subprocess.run([sys.executable, "-c", line], env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kd distill" in done.stdout
