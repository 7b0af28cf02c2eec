"""What a run prints, and where to."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from running import KD, TINY, environment, files_below, inside, kd


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run by the installed command: its working folder, standard output and standard error."""
    folder = tmp_path_factory.mktemp("finished")
    done = kd("distill", *TINY, cwd=folder)
    assert done.status == 0, done.err
    return folder, done.out, done.err


def test_standard_output_of_a_run_is_its_folders_path_alone(finished: tuple[Path, str, str]) -> None:
    folder, out, _ = finished
    assert out.count("\n") == 1
    run = Path(out.rstrip("\n"))
    assert run.parent == folder / "outputs" / "runs"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_distill_[0-9a-f]{6}", run.name)
    assert {path.name for path in run.iterdir()} == {".hydra", "kd.log", "result.json"}


def test_table_and_progress_go_to_standard_error(finished: tuple[Path, str, str]) -> None:
    _, out, err = finished
    assert "teacher: epoch 6/6" in err
    assert re.search(r"test errors\s+│\s+\d+ of 599 │\s+\d+ of 599 │\s+\d+ of 599 │", err)
    assert "\x1b[" not in out + err, "no colours where the output is no terminal"
    log = (Path(out.rstrip("\n")) / "kd.log").read_text()
    assert "teacher: epoch 6/6" in log


def test_every_path_can_be_pasted_into_a_command_and_none_holds_a_pickle(finished: tuple[Path, str, str]) -> None:
    folder, _, _ = finished
    paths = files_below(folder)
    assert {path.split("/")[1] for path in paths if "/" in path} == {
        ".locks",
        "runs",
        "soft_targets",
        "students",
        "teachers",
    }
    assert all(re.fullmatch(r"[A-Za-z0-9._/-]+", path) for path in paths)
    kinds = {Path(path).suffix for path in paths if (folder / path).is_file()}
    assert kinds == {".safetensors", ".json", ".jsonl", ".yaml", ".log", ".lock"}


def test_evaluate_prints_its_answer_on_standard_output(finished: tuple[Path, str, str], tmp_path: Path) -> None:
    run = finished[1].rstrip("\n")
    done = kd("evaluate", f"path={run}", "format=json", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["n"] == 599
    assert files_below(tmp_path) == []


def test_a_refused_run_does_not_spoil_the_next_one_in_the_same_process(tmp_path: Path) -> None:
    refused = inside("train-teacher", "teacher.train.epochs=0", cwd=tmp_path)
    assert refused.status == 1
    done = inside("train-teacher", "teacher.train.epochs=1", cwd=tmp_path)
    assert (done.status, "must be" in done.err) == (0, False)
    assert done.run.is_dir()


def test_a_closed_pipe_is_no_error_of_the_output_folder(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(KD), "distill", "--help"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read().decode()
    process.stderr.close()
    process.wait()
    assert "output_dir" not in told
    assert "Traceback" not in told
