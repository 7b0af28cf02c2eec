"""`kd evaluate` of what is stored."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from running import Outcome, inside, seal
from safetensors.torch import save_file

import kd_cli
from kd_cli.data.spec import image_spec
from kd_cli.errors import ArtifactError
from kd_cli.measure import prediction
from kd_cli.measure.evaluation import latency_ms
from kd_cli.measure.prediction import evaluation_batch


@pytest.mark.parametrize(("split", "n"), [("train", 1098), ("validation", 100), ("transfer", 1098), ("test", 599)])
def test_evaluate_on_each_split(split: str, n: int, made: Outcome, tmp_path: Path) -> None:
    done = inside("evaluate", f"path={made.run}", f"split={split}", "format=json", cwd=tmp_path)
    figures = json.loads(done.out)
    assert (figures["split"], figures["n"], figures["dataset"]) == (split, n, "digits")
    assert done.err == ""
    if split == "test":
        same = {key: value for key, value in made.result["student"].items() if key in figures and key != "latency_ms"}
        assert {key: figures[key] for key in same} == same


def test_an_unknown_split(made: Outcome, tmp_path: Path) -> None:
    done = inside("evaluate", f"path={made.run}", "split=tests", cwd=tmp_path)
    expected = "split must be one of train, validation, transfer, test, got 'tests'.\n"
    assert (done.status, done.out, done.err) == (1, "", expected)


def test_a_validation_split_that_is_not_there(made: Outcome, tmp_path: Path) -> None:
    done = inside("evaluate", f"path={made.run}", "dataset=digits", "split=validation", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == "split=validation: digits has none. Set dataset.validation=0.1.\n"
    words = ("dataset=digits", "dataset.validation=50", "split=validation", "format=json")
    for given in (words, words[1:]):  # also of the data set that is stored
        assert json.loads(inside("evaluate", f"path={made.run}", *given, cwd=tmp_path).out)["n"] == 50


def test_evaluate_as_csv_and_as_a_table(made: Outcome, tmp_path: Path) -> None:
    student = made.result["student"]
    (row,) = csv.DictReader(inside("evaluate", f"path={made.run}", "format=csv", cwd=tmp_path).out.splitlines())
    assert int(row["errors"]) == student["errors"]
    assert float(row["nll"]) == pytest.approx(student["nll"])
    assert {"latency_ms_1", "latency_ms_256", "params", "flops", "bytes"} <= set(row)

    done = inside("evaluate", f"path={made.run}", cwd=tmp_path)
    assert done.err == ""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in done.out.splitlines() if "│" in line]
    assert ["test errors", f"{student['errors']} of 599"] in rows
    assert ["9", str(student["per_class"]["9"]["errors"]), str(student["per_class"]["9"]["n"])] in rows


def test_a_model_for_other_data_is_refused(made: Outcome, tmp_path: Path) -> None:
    for k, name in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        folder = tmp_path / "pets" / name
        folder.mkdir(parents=True)
        Image.new("L", (8, 8), k).save(folder / "0.png")
    words = ("dataset=image_folder", "dataset.root=pets", "dataset.size=8", "dataset.channels=1", "dataset.workers=0")
    done = inside("evaluate", f"path={made.run}", *words, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"path must be a model for dataset=image_folder (2 classes, images [1, 8, 8]), got {str(made.run)!r} "
        "(10 classes, images [1, 8, 8]).\n"
    )


# Odd models, paths and sizes.


@pytest.mark.parametrize("path", ["x" * 300, "a\0b", "loop", "file/below"])
def test_a_path_that_is_none_is_refused_as_every_other(path: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError) as refusal:
        kd_cli.load(path)
    assert str(refusal.value).startswith("path must be a ")


def test_a_folder_that_may_not_be_read(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def refuse(path: Path, *words: Any, **more: Any) -> Any:
        if path.name == "model.safetensors" and path.parent == student:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *words, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ArtifactError, match="Permission denied"):
        kd_cli.load(student)


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "torch.nn.Identity"},
        {"_target_": "torch.nn.Identity", "_partial_": True},
        {"_target_": "torch.nn.Flatten", "start_dim": 1, "end_dim": 3},
        {"_target_": "torch.nn.Module"},
        {"_target_": "torch.nn.ModuleList"},
        {"_target_": "torch.nn.LSTM", "input_size": 8, "hidden_size": 8},
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_stored_network_without_logits_is_refused(
    node: dict[str, Any], command: str, student: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load((student / "config.yaml").read_text()) | {"model": node}
    (student / "config.yaml").write_text(json.dumps(config))
    save_file({}, student / "model.safetensors")
    manifest = json.loads((student / "manifest.json").read_text())
    for name in ("config.yaml", "model.safetensors"):
        content = (student / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    seal(student, manifest)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    done = inside(command, f"path={student}", *(["images=a.png"] if command == "predict" else []), cwd=tmp_path)
    assert (done.status, done.out, "Traceback" in done.err) == (1, "", False)
    assert done.err.count("\n") == 1
    assert str(student) in done.err


def test_large_images_are_evaluated_in_small_batches(student: Path, tmp_path: Path, monkeypatch) -> None:
    assert [evaluation_batch(image_spec(shape)) for shape in ((1, 28, 28), (3, 224, 224))] == [256, 256]
    assert [evaluation_batch(image_spec((channels, 8192, 8192))) for channels in (1, 3)] == [1, 1]
    (tmp_path / "images").mkdir()
    for k in range(5):
        Image.new("L", (8, 8), 50 * k).save(tmp_path / "images" / f"{k}.png")
    whole = inside("predict", f"path={student}", "images=images", cwd=tmp_path)
    monkeypatch.setattr(prediction, "LARGEST_BATCH", 128)
    parts = inside("predict", f"path={student}", "images=images", cwd=tmp_path)
    assert (parts.status, parts.out.count("\n")) == (0, 6)
    assert [line.split(",")[:2] for line in parts.out.split()] == [line.split(",")[:2] for line in whole.out.split()]


def test_a_latency_that_would_take_gigabytes_is_not_measured() -> None:
    def fail(images: torch.Tensor) -> torch.Tensor:
        pytest.fail("it was tried")

    network = torch.nn.Identity()
    network.forward = fail  # type: ignore[method-assign]
    assert latency_ms(network, torch.empty(1, 1, 8192, 8192), 256) is None
