"""What a run leaves."""

import json
from pathlib import Path

import pytest
import torch
from left import STAGES, artifacts, digest
from running import TINY, Outcome, inside
from safetensors.torch import load_file


def test_result_json_has_every_field(first: tuple[Path, Outcome]) -> None:
    result = first[1].result
    assert result["status"] == "completed"
    assert result["command"] == "distill"
    assert result["overrides"] == list(TINY)
    assert (result["seed"], result["dataset"]) == (0, "digits")
    assert (result["temperature"], result["soft_weight"], result["hard_weight"]) == (4.0, 0.9, 0.1)
    errors = [result[role]["errors"] for role in ("teacher", "student", "baseline")]
    assert result["gap_recovered"] == pytest.approx((errors[2] - errors[1]) / (errors[2] - errors[0]))
    assert list(result["stages"]) == list(STAGES)
    for stage in result["stages"].values():
        assert stage["seconds"] >= 0
        assert stage["cached"] is False
        assert (first[0] / "outputs" / stage["artifact"]).is_dir()
    environment = result["environment"]
    assert environment["device"] in ("cpu", "cuda", "mps")
    assert environment["precision"] == "32"
    assert isinstance(environment["threads"], int)
    assert environment["torch"] == torch.__version__
    assert {"kd", "dataset_fingerprint"} <= set(environment)
    assert len(environment["dataset_fingerprint"]) == 64


@pytest.mark.parametrize("role", ["teacher", "student", "baseline"])
def test_every_model_has_every_figure(role: str, first: tuple[Path, Outcome]) -> None:
    figures = first[1].result[role]
    whole = {"errors": int, "n": int, "params": int, "flops": int, "bytes": int}
    real = {"accuracy": float, "nll": float, "ece": float}
    for name, kind in (whole | real).items():
        assert type(figures[name]) is kind, name
    assert figures["n"] == 599
    assert figures["accuracy"] == pytest.approx(1 - figures["errors"] / 599)
    assert set(figures["latency_ms"]) == {"1", "256"}
    assert all(value > 0 for value in figures["latency_ms"].values())
    assert list(figures["per_class"]) == [str(k) for k in range(10)]
    assert sum(entry["errors"] for entry in figures["per_class"].values()) == figures["errors"]
    assert sum(entry["n"] for entry in figures["per_class"].values()) == 599
    assert ("agreement" in figures, "kl_to_teacher" in figures) == ((role == "student"),) * 2
    if role != "teacher":
        history = (first[0] / "outputs" / figures["artifact"] / "history.jsonl").read_text().splitlines()
        assert figures["train_accuracy"] == json.loads(history[-1])["train_accuracy"]
    # (inputs, units, positions) of each layer: the teacher's convolutions run at 8 × 8 and 4 × 4 positions
    convolutional = [(9, 32, 64), (9 * 32, 64, 16), (256, 128, 1), (128, 10, 1)]
    layers = convolutional if role == "teacher" else [(64, 64, 1), (64, 10, 1)]
    assert figures["params"] == sum((inputs + 1) * units for inputs, units, _ in layers)
    assert figures["flops"] == sum(2 * inputs * units * positions for inputs, units, positions in layers)


def test_every_artifact_has_its_files_and_they_match_the_manifest(first: tuple[Path, Outcome]) -> None:
    for stage, name in artifacts(first[1].result).items():
        folder = first[0] / "outputs" / name
        weights = {"logits-00000.safetensors", "samples.safetensors"}
        trained = {"model.safetensors", "config.yaml", "history.jsonl"}
        expected = weights if stage == "soft_targets" else trained
        assert expected | {"manifest.json"} <= {path.name for path in folder.iterdir()}
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["identity"]["stage"] == ("student" if stage == "baseline" else stage)
        for file, entry in manifest["files"].items():
            assert digest(folder / file) == entry["sha256"]
    assert not list((first[0] / "outputs").glob("*/.*")), "no half-written folder"


def test_history_has_a_line_for_each_epoch(first: tuple[Path, Outcome]) -> None:
    names = artifacts(first[1].result)
    terms = {"teacher": {"loss"}, "student": {"loss", "soft", "hard"}, "baseline": {"loss"}}
    for stage, expected in terms.items():
        lines = (first[0] / "outputs" / names[stage] / "history.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert [record["epoch"] for record in records] == list(range(1, 7 if stage == "teacher" else 3))
        for record in records:
            assert set(record) == {"epoch", "lr", "train_accuracy", "samples_per_second"} | expected
    student = json.loads((first[0] / "outputs" / names["student"] / "history.jsonl").read_text().splitlines()[0])
    assert student["loss"] == pytest.approx(0.9 * student["soft"] + 0.1 * student["hard"], rel=1e-4)


def test_soft_targets_are_centred_float16_logits(first: tuple[Path, Outcome]) -> None:
    folder = first[0] / "outputs" / artifacts(first[1].result)["soft_targets"]
    logits = load_file(folder / "logits-00000.safetensors")["logits"]
    samples = load_file(folder / "samples.safetensors")
    assert (logits.shape, logits.dtype) == ((1198, 10), torch.float16)
    assert logits.max(1).values.eq(0).all()
    assert samples["index"].dtype == torch.int64
    assert len(samples["index"].unique()) == 1198
    assert len(samples["crc32"]) == 1198


def test_a_note_is_told(first: tuple[Path, Outcome]) -> None:
    done = inside("distill", *TINY, "transfer.labels=none", "hard_weight=0", cwd=first[0])
    assert "The transfer set has no labels: the baseline was trained on the training split." in done.err


def test_the_precision_is_said_before_the_first_epoch(first: tuple[Path, Outcome]) -> None:
    said = first[1].err
    assert said.index("precision 32, chosen for precision=auto") < said.index("teacher: epoch 1/6")
