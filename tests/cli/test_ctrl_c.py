import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from running import KD, environment, inside


def listen() -> None:
    """What a background job starts ignores SIGINT, and its children inherit that; a person's shell does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupted(folder: Path, *words: str, when: str) -> tuple[int, str, str]:
    """Presses Ctrl-C once standard error shows `when`."""
    process = subprocess.Popen(
        [str(KD), *words],
        cwd=folder,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=listen,
    )
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if when in line:
            break
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, err = process.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, seen + err


LONG = ("teacher.train.epochs=2", "student.train.epochs=100000")
KEPT = (
    "Interrupted. Finished teachers, soft targets and students are kept, and what was written down of an "
    "unfinished one: the same command goes on from there."
)


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(tmp_path: Path) -> None:
    status, out, err = interrupted(tmp_path, "distill", *LONG, when="the teacher is right on")
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == KEPT
    assert "Traceback" not in err
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "interrupted"
    assert result["command"] == "distill"
    assert result["overrides"] == list(LONG)
    assert set(result["stages"]) == {"teacher", "soft_targets"}
    students = tmp_path / "outputs" / "students"
    assert all(path.name.endswith(".partial") for path in students.glob("*")), "nothing half-written under its name"

    again = inside("dump-targets", LONG[0], cwd=tmp_path).result
    assert again["stages"]["teacher"]["cached"]
    assert again["stages"]["soft_targets"]["cached"]


@pytest.mark.slow
def test_ctrl_c_in_a_sweep_stops_all_of_it(tmp_path: Path) -> None:
    status, _, err = interrupted(tmp_path, "sweep", *LONG, "temperature=1,2", when="the teacher is right on")
    assert status == 130
    assert "Traceback" not in err
    assert KEPT in err.splitlines()
    (first,) = (tmp_path / "outputs" / "sweeps").glob("*/*/result.json")
    assert json.loads(first.read_text())["status"] == "interrupted"
