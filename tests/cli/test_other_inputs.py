"""Texts, features and sounds through every command: kd learns from whatever a data set says its samples are."""

import json
from pathlib import Path

import other_inputs
import pytest
import torch
from running import inside, kd

import kd_cli

KINDS = {
    "texts": ("dataset=texts", "teacher=bag", "student=bag"),
    "masked": ("dataset=masked", "teacher=bag", "student=bag"),
    "rows": ("dataset=rows", "teacher=layers", "student=layers"),
}
TRUSTED = "trusted_modules=[my_samples]"


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_of_other_inputs_is_distilled_stored_found_and_judged(kind: str, tmp_path: Path) -> None:
    own = other_inputs.write(tmp_path)
    words = ("distill", *own, *KINDS[kind])
    done = inside(*words, cwd=tmp_path)
    result = done.result
    assert "FLOPs a sample" in done.err
    assert "samples/s" in done.err
    assert "image" not in done.err, done.err
    assert result["teacher"]["accuracy"] > 0.8
    assert result["student"]["n"] == 120
    assert result["student"]["flops"] > 0
    assert result["student"]["latency_ms"]["256"] > 0
    again = inside(*words, cwd=tmp_path).result
    assert {stage["cached"] for stage in again["stages"].values()} == {True}
    assert again["student"]["errors"] == result["student"]["errors"]

    path = f"path=outputs/{result['student']['artifact']}"
    judged = inside("evaluate", path, TRUSTED, "format=json", cwd=tmp_path)
    assert judged.status == 0, judged.err
    assert json.loads(judged.out)["errors"] == result["student"]["errors"]

    refused = inside("predict", path, TRUSTED, f"images={tmp_path}", cwd=tmp_path)
    assert refused.status == 1
    assert refused.err.startswith("path must be a model for images, got 'outputs/students/"), refused.err
    assert ("It takes features inputs [6]." if kind == "rows" else "It takes text inputs [8]") in refused.err


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_model_says_what_it_takes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = other_inputs.write(tmp_path)
    result = inside("distill", *own, *KINDS[kind], "baseline=false", cwd=tmp_path).result
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = kd_cli.load(tmp_path / "outputs" / result["student"]["artifact"], trusted_modules=["my_samples"])
    stored = {
        "texts": {"kind": "text", "shape": [8], "vocabulary": 12},
        "masked": {"kind": "text", "shape": [8], "vocabulary": 12, "parts": ["ids", "mask"]},
        "rows": {"kind": "features", "shape": [6]},
    }[kind]
    assert loaded.spec.stored() == loaded.config["spec"] == stored
    with torch.no_grad():
        assert loaded.model(loaded.spec.blank(3)).shape == (3, len(loaded.classes))


def test_targets_of_texts_are_stored_and_checked_by_their_samples(tmp_path: Path) -> None:
    own = other_inputs.write(tmp_path)
    words = ("dump-targets", *own, "dataset=masked", "teacher=bag")
    result = inside(*words, cwd=tmp_path).result
    assert result["stages"]["soft_targets"]["artifact"].startswith("soft_targets/")
    assert inside(*words, cwd=tmp_path).result["stages"]["soft_targets"]["cached"] is True
    changed = (tmp_path / "my_samples.py").read_text().replace("manual_seed(3)", "manual_seed(5)")
    (tmp_path / "my_samples.py").write_text(changed)
    assert kd(*words, cwd=tmp_path).result["stages"]["soft_targets"]["cached"] is False


def test_a_view_of_texts_is_replayed_by_an_augmentation_for_texts(tmp_path: Path) -> None:
    own = other_inputs.write(tmp_path)
    words = ("distill", *own, *KINDS["texts"], "augment@transfer.augment=shuffled", "baseline=false")
    assert inside(*words, "transfer.views=2", cwd=tmp_path).result["student"]["accuracy"] > 0.6
    assert inside(*words, "teacher.online=true", cwd=tmp_path).result["student"]["accuracy"] > 0.6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (*KINDS["texts"], "augment@transfer.augment=jitter"),
            "transfer.augment must be one for text inputs, got jitter, which is for images.",
        ),
        (
            (*KINDS["texts"], "augment@transfer.augment=mixup"),
            "transfer.augment must be one for text inputs, got mixup, which is for images.",
        ),
        (
            (*KINDS["rows"], "+augment@teacher.augment=crop_flip"),
            "teacher.augment must be one for features inputs, got crop_flip, which is for images.",
        ),
        (
            ("augment@transfer.augment=shuffled",),
            "transfer.augment must be one for images, got shuffled, which is for text inputs.",
        ),
        (
            ("dataset=texts", "teacher=bag", "student=cnn_small"),
            "student.model must be a network for inputs of shape [8], got one for images.",
        ),
        (
            ("dataset=texts", "teacher=bag", "student=layers"),
            "student.model must be a network for text inputs [8] (vocabulary 12) of dataset=texts, got an error:",
        ),
        (
            (*KINDS["texts"], "+dataset.vocabulary=9"),
            "dataset must be one of token ids from 0 to 8, got 11.",
        ),
        ((*KINDS["rows"], "+dataset.spoilt=true"), "dataset must be one of finite numbers, got NaN or infinity in 1"),
        (
            (*KINDS["rows"], "transfer.dataset=rows", "+transfer.dataset.spoilt=true"),
            "transfer.dataset must be one of finite numbers, got NaN or infinity in 1",
        ),
        (
            (*KINDS["texts"], "transfer.dataset=texts", "+transfer.dataset.vocabulary=9"),
            "transfer.dataset must be one of token ids from 0 to 8, got 11.",
        ),
        (
            (*KINDS["texts"], "dataset@transfer.dataset=rows"),
            "transfer.dataset must be one with text inputs [8] (vocabulary 12), as dataset=texts has, "
            "got features inputs [6]. Choose another.",
        ),
        (
            (*KINDS["texts"], "transfer.dataset=texts", "+transfer.dataset.vocabulary=13"),
            "transfer.dataset must be one with text inputs [8] (vocabulary 12), as dataset=texts has, "
            "got text inputs [8] (vocabulary 13). Choose another.",
        ),
    ],
)
def test_what_does_not_fit_the_inputs_is_refused_before_any_work(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    own = other_inputs.write(tmp_path)
    done = inside("distill", *own, *words, cwd=tmp_path)
    assert done.status == 1
    assert message in done.err
    assert "Traceback" not in done.err
    assert not list((tmp_path / "outputs").glob("teachers/*"))


def test_a_training_of_texts_that_broke_off_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    own = other_inputs.write(tmp_path)
    words = ("distill", *own, *KINDS["masked"], "objective=breaking", "baseline=false")
    (tmp_path / "broken").touch()
    failed = inside(*words, cwd=tmp_path)
    assert failed.status == 1
    assert "as it was asked to" in failed.err
    (tmp_path / "broken").unlink()
    done = inside(*words, cwd=tmp_path)
    assert "student: going on" in done.err
    weights = [
        (tmp_path / root / outcome.result["student"]["artifact"] / "model.safetensors").read_bytes()
        for root, outcome in (
            ("outputs", done),
            ("elsewhere", inside(*words, "output_dir=elsewhere", cwd=tmp_path)),
        )
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("kind", ["masked", "rows"])
def test_an_ensemble_an_online_teacher_and_a_part_of_a_batch_take_other_inputs(kind: str, tmp_path: Path) -> None:
    own = other_inputs.write(tmp_path)
    dataset, _, student = KINDS[kind]
    member = KINDS[kind][1].partition("=")[2]
    ensemble = ("teacher=ensemble", "teacher.size=2", f"teacher@teacher.member={member}")
    result = inside("distill", *own, dataset, student, *ensemble, "baseline=false", cwd=tmp_path).result
    assert len(result["teacher"]["members"]) == 2
    online = (*ensemble, "teacher.online=true", "student.train.accumulate=3", "precision=bf16-mixed")
    assert inside("distill", *own, dataset, student, *online, cwd=tmp_path).result["student"]["n"] == 120


def test_a_stored_teacher_of_other_inputs_is_refused_by_what_it_takes(tmp_path: Path) -> None:
    own = other_inputs.write(tmp_path)
    stored = inside("train-teacher", *own, "dataset=texts", "teacher=bag", cwd=tmp_path).result["teacher"]["artifact"]
    words = ("teacher=artifact", f"teacher.path=outputs/{stored}", TRUSTED, "student=bag", "baseline=false")
    assert inside("distill", *own, "dataset=texts", *words, cwd=tmp_path).status == 0
    refused = inside("distill", *own, "dataset=masked", *words, cwd=tmp_path)
    assert refused.status == 1
    assert "whose parts of an input is [] instead of [ids, mask]" in refused.err


def test_a_population_of_feature_networks_is_trained_together(tmp_path: Path) -> None:
    own = other_inputs.write(tmp_path)
    words = ("sweep", *own, "dataset=rows", "teacher=layers", "temperature=1,4", "hydra/launcher=population")
    done = inside(*words, "student=mlp_32", "student.train.epochs=3", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "students: 2 trained together" in done.err
    refused = inside(*words[:2], "mine", *words[3:], "student=layers", cwd=tmp_path)
    assert refused.status == 1
    assert "student.model must be Normalise, Flatten, then Linear, ReLU and Dropout layers" in refused.err


def test_sounds_and_integers_go_through_the_installed_command(tmp_path: Path) -> None:
    own = other_inputs.write(tmp_path)
    done = kd("distill", *own, *KINDS["rows"], "dataset.kind=audio", "baseline=false", cwd=tmp_path)
    assert done.result["student"]["accuracy"] > 0.6
