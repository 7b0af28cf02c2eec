import os
import signal
import subprocess
import sys
from pathlib import Path

from faults.concurrent_runs import run_together
from running import TINY, environment, inside


def test_three_runs_of_one_command_share_what_one_of_them_made(tmp_path: Path) -> None:
    run_together(tmp_path, 3)


def test_the_lock_of_a_killed_process_blocks_nobody(tmp_path: Path) -> None:
    first = inside("train-teacher", TINY[0], cwd=tmp_path).result
    (teacher,) = (tmp_path / "outputs" / "teachers").iterdir()
    lock = tmp_path / "outputs" / ".locks" / f"teachers-{teacher.name}.lock"
    teacher.rename(tmp_path / "made before")
    holds = f"from filelock import FileLock; FileLock({str(lock)!r}).acquire(); print('held', flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=environment(), text=True)  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lock.with_suffix(".owner").write_text(f"process {holder.pid} on a machine")
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    again = inside("train-teacher", TINY[0], cwd=tmp_path)
    assert again.result["teacher"]["errors"] == first["teacher"]["errors"]
    assert "waiting" not in again.err
