"""Trainings of every kind, on data of every kind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from left import STAGES, artifacts, cached
from PIL import Image
from running import TINY, inside
from safetensors.torch import load_file

from kd_cli.cli.choices import CONFIGS
from kd_cli.device import native_bf16

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"


# Recipes.


def test_the_best_epoch_by_validation_is_kept_where_asked_for(tmp_path: Path) -> None:
    words = ("dataset.validation=0.1", "student.train.select=best_validation", "student.train.epochs=4")
    lr = "student.train.optimizer.lr=0.5"
    result = inside("distill", TINY[0], *words, lr, cwd=tmp_path).result
    assert set(result["stages"]) == set(STAGES)
    history = tmp_path / "outputs" / artifacts(result)["student"] / "history.jsonl"
    records = [json.loads(line) for line in history.read_text().splitlines()]
    best = max(record["validation_accuracy"] for record in records)
    run = result["student"]["artifact"]
    judged = inside("evaluate", f"path=outputs/{run}", "split=validation", "format=json", cwd=tmp_path)
    figures = json.loads(judged.out)
    assert figures["n"] == 120
    assert figures["accuracy"] == pytest.approx(best)
    kept = next(record for record in records if record["validation_accuracy"] == best)
    assert result["student"]["train_accuracy"] == kept["train_accuracy"]


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision(precision: str, again: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    result = again(f"precision={precision}")
    possible = precision == "16-mixed" or native_bf16(torch.device("cpu"))
    assert result["environment"]["precision"] == (precision if possible else "32")
    weights = load_file(tmp_path / "outputs" / artifacts(result)["student"] / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_convolutional_networks_on_the_digits(tmp_path: Path) -> None:
    words = ("model@teacher.model=cnn", "teacher.model.channels=[8]", "teacher.model.widths=[16]")
    words += ("model@student.model=resnet8", "student.model.widths=[4,4,8,8]", "student.train.epochs=1")
    result = inside("distill", *words, "teacher.train.epochs=1", "student.train.batch_size=599", cwd=tmp_path).result
    assert result["student"]["params"] > 0
    loaded = load_file(tmp_path / "outputs" / artifacts(result)["student"] / "model.safetensors")
    assert any(name.endswith("running_mean") for name in loaded)


def test_other_optimizers_and_schedules_by_their_files(again: Callable[..., dict[str, Any]]) -> None:
    result = again(
        "optimizer@student.train.optimizer=adamw",
        "scheduler@student.train.scheduler=one_cycle",
        "student.train.optimizer.lr=0.003",
    )
    assert cached(result) == {"teacher", "soft_targets"}


def test_compiling_changes_neither_identity_nor_format(
    again: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, real = [], torch.compile

    def without_cpp(model: torch.nn.Module, **options: Any) -> Any:
        compiled.append(model)
        return real(model, backend="eager")  # traced as always; a C++ compiler would take a minute

    monkeypatch.setattr(torch, "compile", without_cpp)
    result = again("compile=true", "seed=3", "baseline=false")
    assert cached(result) == {"teacher", "soft_targets"}
    assert len(compiled) == 1
    assert cached(again("seed=3", "baseline=false")) == {"teacher", "soft_targets", "student"}


# Other data.


def pictures(root: Path) -> None:
    """Two classes that differ in brightness, with an unlabelled transfer set."""
    generator = torch.Generator().manual_seed(0)

    def picture(bright: int) -> Image.Image:
        pixels = torch.randint(0, 100, (20, 24, 3), generator=generator) + 140 * bright
        return Image.frombytes("RGB", (24, 20), bytes(pixels.flatten().tolist()))

    for part, each in (("train", 24), ("test", 8), ("validation", 4)):
        for label, name in enumerate(("dark", "light")):
            (root / part / name).mkdir(parents=True)
            for k in range(each):
                picture(label).save(root / part / name / f"{k}.png")
    (root / "transfer").mkdir()
    for k in range(16):
        picture(k % 2).save(root / "transfer" / f"{k}.jpg")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_of_images_with_an_unlabelled_transfer_set(workers: int, tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    words = ("dataset=image_folder", "dataset.root=pictures", "dataset.size=16", f"dataset.workers={workers}")
    words = (
        "teacher=cnn_digits",
        "student=mlp_64",
        *words,
        "student.train.batch_size=8",
        "teacher.train.batch_size=8",
        "hard_weight=0",
    )
    result = inside("distill", *words, *TINY, "teacher.train.optimizer.lr=0.01", cwd=tmp_path).result
    assert result["teacher"]["n"] == 16
    assert list(result["teacher"]["per_class"]) == ["dark", "light"]
    assert result["note"] == "The transfer set has no labels: the baseline was trained on the training split."
    folder = tmp_path / "outputs" / artifacts(result)["soft_targets"]
    assert load_file(folder / "logits-00000.safetensors")["logits"].shape == (16, 2)
    assert cached(inside("distill", *words, *TINY, "teacher.train.optimizer.lr=0.01", cwd=tmp_path).result) == set(
        STAGES
    )
    if workers == 0:
        done = inside("distill", *words[:-1], *TINY, cwd=tmp_path)
        assert done.err == (
            "hard_weight must be 0 for a transfer set without labels, got 0.1. "
            "Set hard_weight=0, or sort the images into transfer/<class>/.\n"
        )


@pytest.mark.slow
def test_the_papers_data_set_as_it_was_published(tmp_path: Path) -> None:
    if not MNIST.is_dir():
        pytest.skip(f"the original MNIST files are not in {MNIST.relative_to(MNIST.parents[3])}")
    words = ("dataset=mnist", f"dataset.root={MNIST}", "dataset.download=false", "dataset.validation=50000")
    words += ("teacher=mlp_1200", "teacher.model.widths=[30,30]", "student=mlp_30")
    epochs = ("teacher.train.epochs=1", "student.train.epochs=1", "student.train.batch_size=64")
    result = inside("distill", *words, *epochs, cwd=tmp_path).result
    assert result["teacher"]["n"] == 10_000
    assert result["student"]["params"] == 784 * 30 + 30 + 30 * 30 + 30 + 30 * 10 + 10
    assert result["student"]["accuracy"] > 0.3
    folder = tmp_path / "outputs" / artifacts(result)["soft_targets"]
    assert load_file(folder / "logits-00000.safetensors")["logits"].shape == (10_000, 10)


def test_the_default_experiment_needs_neither_network_nor_files() -> None:
    assert "- dataset: digits" in (CONFIGS / "distill.yaml").read_text()
