"""What a run leaves in its folder, above all where an earlier run left something."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import TINY, Outcome, inside

from kd_cli.store import run_folder

FIXED = ("baseline=false", "hydra.run.dir=outputs/runs/mine")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("finished")
    done = inside("distill", *TINY, *FIXED, cwd=folder)
    assert done.result["status"] == "completed"
    return folder, done


@pytest.mark.parametrize("word", ["temperature=-1", "student.model.widths=[0]", "dataset.validation=7000", "seed=x"])
def test_a_refused_command_leaves_a_finished_result_alone(word: str, finished: tuple[Path, Outcome]) -> None:
    folder, done = finished
    before = (folder / done.run / "result.json").read_bytes()
    refused = inside("distill", *TINY, *FIXED, word, cwd=folder)
    assert (refused.status, refused.out) == (1, "")
    assert (folder / done.run / "result.json").read_bytes() == before


def test_a_result_says_which_data_and_which_artifacts(finished: tuple[Path, Outcome]) -> None:
    result = json.loads((finished[0] / finished[1].run / "result.json").read_text())
    assert result["data"] == {"_target_": "kd_cli.datasets.digits.digits", "size": 8, "validation": 0, "seed": 0}
    assert set(result["artifacts"]) == {stage["artifact"] for stage in result["stages"].values()}


def test_a_completed_result_stands_until_its_successor_is_complete(tmp_path: Path) -> None:
    def now() -> dict[str, Any]:
        return json.loads((tmp_path / "result.json").read_text())

    run_folder.mark_accepted(tmp_path, {"seed": 0})
    assert now() == {"format": 1, "seed": 0, "status": "interrupted"}
    run_folder.update(tmp_path, {"student": 1, "status": "completed"})
    first = now()
    for seed in (1, 2):  # neither comes to its end
        run_folder.mark_accepted(tmp_path, {"seed": seed})
        assert now() == {"format": 1, "seed": seed, "status": "interrupted", "replaces": first}
    run_folder.update(tmp_path, {"error": "no", "status": "failed"})
    assert now()["replaces"] == first
    run_folder.mark_accepted(tmp_path, {"seed": 3})
    run_folder.update(tmp_path, {"status": "completed"})
    assert now() == {"format": 1, "seed": 3, "status": "completed"}


@pytest.mark.parametrize("damage", [b"", b"[1]", b"\xff", b"[" * 100_000])
def test_over_a_damaged_result_a_new_one_is_written(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(damage)
    run_folder.mark_accepted(tmp_path, {"seed": 0})
    assert run_folder.read(tmp_path) == {"format": 1, "seed": 0, "status": "interrupted"}


def test_a_place_where_no_file_can_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine" / "result.json").mkdir(parents=True)
    refused = inside("train-teacher", TINY[0], "hydra.run.dir=runs/mine", cwd=tmp_path)
    assert refused.status == 1
    assert "Traceback" not in refused.err
    assert refused.err.splitlines()[-1].startswith(
        f"output_dir must be a folder that can be written, got {str(tmp_path / 'runs' / 'mine')!r}."
    )
