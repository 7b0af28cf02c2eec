"""What a recipe may say, and going on from what is stored, through the command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import TINY, Outcome, inside

from kd_cli.device import find_device
from kd_cli.errors import ConfigError


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("recipes")
    return folder, inside("distill", *TINY, "dataset.validation=100", cwd=folder)


@pytest.fixture
def again(first: tuple[Path, Outcome]) -> Callable[..., Outcome]:
    return lambda *words: inside("distill", *TINY, "dataset.validation=100", *words, cwd=first[0])


def test_what_is_default_is_no_part_of_an_identity(first, again) -> None:
    words = ["accumulate=1", "patience=null", "class_weights=null", "batch_statistics=auto", "start_from=null"]
    typed = [f"{role}.train.{word}" for word in words for role in ("teacher", "student")]
    assert all(stage["cached"] for stage in again(*typed).result["stages"].values())
    identity = json.loads((first[0] / "outputs" / again().result["student"]["artifact"] / "manifest.json").read_text())
    assert not {word.partition("=")[0] for word in words} & set(identity["identity"]["train"]["config"])


def test_every_key_serves_teacher_student_and_baseline(first, again) -> None:
    keys = ["accumulate=2", "class_weights=balanced", "patience=1", "batch_statistics=recomputed"]
    typed = [f"{role}.train.{key}" for key in keys for role in ("teacher", "student")]
    plateau = [f"scheduler@{role}.train.scheduler=plateau" for role in ("teacher", "student")]
    done = again(*typed, *plateau)
    assert not any(stage["cached"] for stage in done.result["stages"].values())
    for role in ("teacher", "student", "baseline"):
        about = json.loads((first[0] / "outputs" / done.result[role]["artifact"] / "manifest.json").read_text())
        assert {"accumulate": 2, "class_weights": "balanced", "patience": 1}.items() <= about["identity"]["train"][
            "config"
        ].items()
        assert "validation" in about["identity"], "the validation split has a say in the weights"


def test_class_weights_of_other_classes_are_refused_before_any_work(again, first) -> None:
    before = sorted((first[0] / "outputs" / "runs").iterdir())
    for role in ("teacher", "student"):
        done = again(f"{role}.train.class_weights=[1,2]")
        assert done.status == 1
        assert done.err.startswith(f"{role}.train.class_weights must be a list of 10 numbers, one for each class"), (
            done.err
        )
    assert sorted((first[0] / "outputs" / "runs").iterdir()) == before


def test_a_run_is_gone_on_with_each_from_its_own(first, again) -> None:
    folder, outcome = first
    run = outcome.run
    done = again(f"student.train.start_from={run}", "student.train.epochs=1").result
    starts = {}
    for role in ("student", "baseline"):
        about = json.loads((folder / "outputs" / done[role]["artifact"] / "manifest.json").read_text())["identity"]
        starts[role] = about["train"]["config"]["start_from"]
        record = json.loads((folder / "outputs" / done[role]["artifact"] / "history.jsonl").read_text().splitlines()[0])
        ended = (folder / "outputs" / outcome.result[role]["artifact"] / "history.jsonl").read_text().splitlines()
        assert record["loss"] < json.loads(ended[0])["loss"], "it does not begin anew"
    assert starts["student"] != starts["baseline"]
    moved = folder / "elsewhere"
    moved.symlink_to(run)
    same = again(f"student.train.start_from={moved}", "student.train.epochs=1").result
    assert same["stages"]["student"]["cached"], "the weights count, and not where they lie"


def test_a_teacher_goes_on_from_a_stored_one(first, again) -> None:
    folder, outcome = first
    path = folder / "outputs" / outcome.result["teacher"]["artifact"]
    for start in (path, outcome.run):
        done = again(f"teacher.train.start_from={start}", "baseline=false").result
        assert done["teacher"]["artifact"] != outcome.result["teacher"]["artifact"]
        record = (folder / "outputs" / done["teacher"]["artifact"] / "history.jsonl").read_text().splitlines()[0]
        begun = (path / "history.jsonl").read_text().splitlines()[0]
        assert json.loads(record)["loss"] < json.loads(begun)["loss"] / 2, "it does not begin anew"


def test_a_baseline_does_not_start_from_what_a_teacher_taught(first, again) -> None:
    folder, outcome = first
    path = folder / "outputs" / outcome.result["student"]["artifact"]
    done = again(f"student.train.start_from={path}")
    assert done.status == 1
    assert done.err.startswith("student.train.start_from must be no distilled student where there is a baseline"), (
        done.err
    )
    assert again(f"student.train.start_from={path}", "baseline=false").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["student.train.start_from=nowhere"], "student.train.start_from must be the folder of a model that fits: "),
        (["teacher.train.start_from=nowhere"], "teacher.train.start_from must be the folder of a model that fits: "),
        (
            ["student.train.start_from=3"],
            "student.train.start_from must be the folder of a model that fits: 3 is not an artifact of kd",
        ),
    ],
)
def test_what_cannot_be_started_from_is_refused(again, words, said) -> None:
    done = again(*words)
    assert done.status == 1
    assert done.err.startswith(said), done.err


def test_weights_of_another_network_are_refused(first, again) -> None:
    path = first[0] / "outputs" / first[1].result["student"]["artifact"]
    done = again(f"student.train.start_from={path}", "student.model.widths=[9]", "baseline=false")
    assert done.err.startswith("student.train.start_from must be the folder of a model that fits: "), done.err


@pytest.mark.parametrize("key", ["class_weights=balanced", "start_from=nowhere"])
def test_specialists_have_their_own_start_and_shares(again, key) -> None:
    done = again("teacher=specialists", f"teacher.train.{key}")
    assert done.status == 1
    assert done.err.startswith(f"teacher.train.{key.partition('=')[0]} must be null for specialists"), done.err


# --- one of several GPUs


@pytest.mark.parametrize("device", ["cuda:1", "cuda:99"])
@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="it is there")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, device: str) -> None:
    done = inside("distill", f"device={device}", cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("device must be one that this machine has (auto, cpu"), done.err


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "cpu:0", "gpu"])
def test_a_device_that_is_none_is_refused(tmp_path: Path, device: str) -> None:
    done = inside("distill", f"device='{device}'", cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("device must be one of auto, cpu, cuda, mps, cuda:<number>"), done.err


def test_a_gpu_by_its_number_becomes_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without such a machine: what torch is told."""
    told: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", told.append)
    assert find_device("cuda:1") == torch.device("cuda")
    assert told == [1]
    with pytest.raises(ConfigError, match=r"auto, cpu, cuda:0, cuda:1"):
        find_device("cuda:2")
