"""What the student is shown: labels, views, mixtures, and other data."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from left import JITTER, STAGES, artifacts, cached
from running import TINY, inside
from safetensors.torch import load_file

from kd_cli.datasets.digits import digits


def test_a_transfer_set_without_labels(again: Callable[..., dict[str, Any]]) -> None:
    result = again("transfer.labels=none", "hard_weight=0")
    assert {"teacher", "soft_targets"} <= cached(result), "labels are not the teacher's business"
    assert result["note"] == "The transfer set has no labels: the baseline was trained on the training split."
    assert result["stages"]["baseline"]["cached"], "it is the same baseline"
    assert result["student"]["train_accuracy"] is None
    assert result["baseline"]["train_accuracy"] > 0.5


def test_a_transfer_set_with_some_labels(again: Callable[..., dict[str, Any]]) -> None:
    result = again("transfer.labels=0.3")
    assert cached(result) == {"teacher", "soft_targets"}
    assert result["note"] == "The baseline learnt from the 359 labels of the transfer set's 1,198 images."
    assert not again("transfer.labels=0.3", "transfer.seed=1")["stages"]["student"]["cached"], "other samples' labels"


def test_views_are_dumped_and_replayed(again: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    result = again(JITTER, "transfer.views=2")
    assert cached(result) == {"teacher"}, "a baseline replays the same views"
    folder = tmp_path / "outputs" / artifacts(result)["soft_targets"]
    shards = sorted(folder.glob("logits-*.safetensors"))
    assert [shard.name for shard in shards] == ["logits-00000.safetensors", "logits-00001.safetensors"]
    views = [load_file(shard)["logits"] for shard in shards]
    assert not torch.equal(*views)
    assert cached(again(JITTER, "transfer.views=2")) == set(STAGES)
    assert cached(again(JITTER, "transfer.views=2", "transfer.seed=1")) == {"teacher"}
    assert cached(again(JITTER, "transfer.views=1")) == {"teacher"}


@pytest.mark.parametrize("name", ["affine", "mixup", "cutmix"])
def test_an_augmentation_is_dumped_and_replayed(name: str, again: Callable[..., dict[str, Any]]) -> None:
    words = (f"augment@transfer.augment={name}", "transfer.views=2")
    result = again(*words)  # the join check of the stored targets is part of it
    assert cached(result) == {"teacher"}
    assert cached(again(*words)) == set(STAGES)
    assert cached(again(*words, "transfer.labels=0.5")) == {"teacher", "soft_targets"}


def test_the_online_teacher_sees_the_mixture_that_its_stored_targets_are_of(
    again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    words = ("augment@transfer.augment=cutmix", "augment@transfer.augment.inner=jitter", "student.train.epochs=1")
    weights = []
    for way in (("targets.dtype=float32",), ("teacher.online=true",)):
        student = artifacts(again(*words, *way))["student"]
        weights.append(load_file(tmp_path / "outputs" / student / "model.safetensors"))
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-4, rtol=1e-3)


def test_a_teacher_is_trained_on_mixtures(again: Callable[..., dict[str, Any]]) -> None:
    result = again("augment@teacher.augment=mixup", "baseline=false")
    assert cached(result) == set()
    assert result["teacher"]["errors"] < 150


def test_views_that_do_not_fit_on_the_disk_are_refused_with_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    done = inside("distill", *TINY, JITTER, "transfer.views=5", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(
        "transfer.views must be at most 3 here, got 5. 5 views × 1,198 samples × 10 classes need "
    )
    assert "teacher.online=true" in done.err
    assert not (tmp_path / "outputs").exists()
    assert inside("dump-targets", TINY[0], JITTER, "transfer.views=3", cwd=tmp_path).status == 0


def test_a_transfer_set_without_a_class(again: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    result = again("transfer.omit_classes=[3]", "transfer.fraction=0.5")
    assert cached(result) == {"teacher"}
    samples = load_file(tmp_path / "outputs" / artifacts(result)["soft_targets"] / "samples.safetensors")
    labels = digits().train.labels[torch.isin(digits().train.index, samples["index"])]
    assert set(labels.tolist()) == set(range(10)) - {3}
    assert len(labels) == round(0.5 * int((digits().train.labels != 3).sum()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("transfer.omit_classes=3",), "transfer.omit_classes must be a list of classes, or null, got 3. Write"),
        (("transfer.omit_classes=[3]", "transfer.only_classes=[1]"), "transfer.only_classes must be null where"),
    ],
)
def test_a_choice_of_classes_that_cannot_be_is_refused(words, message, tmp_path: Path) -> None:
    done = inside("distill", *TINY, *words, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(message)
    assert not (tmp_path / "outputs").exists()
