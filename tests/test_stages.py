"""End to end on the digits: what a run leaves, what is found again, and what is not."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from PIL import Image
from running import TINY, Outcome, inside, seal
from safetensors.torch import load_file, save, save_file

from kd_cli.cli.choices import CONFIGS
from kd_cli.datasets.digits import digits
from kd_cli.device import native_bf16
from kd_cli.steps import teacher as train_teacher
from kd_cli.store.artifacts import REBUILD

STAGES = ("teacher", "soft_targets", "student", "baseline")
MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The working folder of a first run, and that run."""
    folder = tmp_path_factory.mktemp("first")
    done = inside("distill", *TINY, cwd=folder)
    assert done.status == 0, done.err
    return folder, done


@pytest.fixture
def again(first: tuple[Path, Outcome], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs `kd distill` with more overrides beside a copy of the first run's outputs."""
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")

    def run(*words: str) -> dict[str, Any]:
        return inside("distill", *TINY, *words, cwd=tmp_path).result

    return run


def artifacts(result: dict[str, Any]) -> dict[str, str]:
    return {name: stage["artifact"] for name, stage in result["stages"].items()}


def cached(result: dict[str, Any]) -> set[str]:
    return {name for name, stage in result["stages"].items() if stage["cached"]}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# What a run leaves.


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
            assert set(record) == {"epoch", "lr", "train_accuracy", "images_per_second"} | expected
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


# What is found again.


def test_the_same_command_finds_everything(first: tuple[Path, Outcome], again: Callable[..., dict[str, Any]]) -> None:
    before = first[1].result
    result = again()
    assert cached(result) == set(STAGES)
    assert artifacts(result) == artifacts(before)
    for role in ("teacher", "student", "baseline"):
        same = {key: value for key, value in before[role].items() if key != "latency_ms"}
        assert {key: value for key, value in result[role].items() if key != "latency_ms"} == same


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("temperature=2",), {"teacher", "soft_targets", "baseline"}),
        (("hard_weight=0.5",), {"teacher", "soft_targets", "baseline"}),
        (("soft_weight=0.5",), {"teacher", "soft_targets", "baseline"}),
        (("seed=1",), {"teacher", "soft_targets"}),
        (("seed=1", "teacher.seed=${seed}"), set()),
        (("student.model.widths=[8]",), {"teacher", "soft_targets"}),
        (("student.train.optimizer.lr=0.05",), {"teacher", "soft_targets"}),
        (("precision=bf16-mixed",), {"teacher", "soft_targets"}),
        (("targets.dtype=float32",), {"teacher", "baseline"}),
        (("targets.top_k=3",), {"teacher", "baseline"}),
        (("targets.temperatures=[1,2]",), set(STAGES)),
        (("teacher.train.optimizer.lr=0.05",), {"baseline"}),
        (("teacher.model.dropout=0.2",), {"baseline"}),
        (("transfer.seed=1",), set(STAGES)),
        (("dataset.validation=100",), set()),
        (("dataset.validation=100", "dataset.seed=1"), set()),
        (("transfer.labels=0.5",), {"teacher", "soft_targets"}),
        (("device=cpu",), set(STAGES)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_reused_and_what_is_not(
    words: tuple[str, ...], found: set[str], again: Callable[..., dict[str, Any]]
) -> None:
    result = again(*words)
    assert cached(result) == found
    if "dataset.validation" in words[0]:
        assert "validation_accuracy" not in result["student"], "figures are those of the test split"


def test_each_precision_of_a_teacher_is_another_teacher(again: Callable[..., dict[str, Any]]) -> None:
    half = "teacher.train.precision=16-mixed"  # every processor has it, if slowly
    assert cached(again(half)) == {"baseline"}
    assert again(half)["stages"]["teacher"]["cached"]


def test_the_same_command_gives_the_same_bytes(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    result = inside("distill", *TINY, f"output_dir={tmp_path / 'elsewhere'}", cwd=tmp_path).result
    assert cached(result) == set()
    assert artifacts(result) == artifacts(first[1].result)
    for name in artifacts(result).values():
        for path in (tmp_path / "elsewhere" / name).glob("*.safetensors"):
            assert digest(path) == digest(first[0] / "outputs" / name / path.name), path


def test_the_stages_one_after_the_other_are_those_of_distill(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    teacher = inside("train-teacher", TINY[0], cwd=tmp_path).result
    assert cached(teacher) == set()
    assert set(teacher["stages"]) == {"teacher"}
    assert teacher["teacher"]["errors"] == first[1].result["teacher"]["errors"]
    dumped = inside("dump-targets", TINY[0], cwd=tmp_path).result
    assert cached(dumped) == {"teacher"}
    assert set(dumped["stages"]) == {"teacher", "soft_targets"}
    distilled = inside("distill", *TINY, cwd=tmp_path).result
    assert cached(distilled) == {"teacher", "soft_targets"}
    assert artifacts(distilled) == artifacts(first[1].result)


def test_without_a_baseline(again: Callable[..., dict[str, Any]]) -> None:
    result = again("baseline=false")
    assert cached(result) == {"teacher", "soft_targets", "student"}
    assert "baseline" not in result
    assert result["gap_recovered"] is None
    assert result["gap_reason"] == "no baseline was trained"


def test_few_logits_serve_the_temperatures_that_they_state(
    again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    few = ("targets.top_k=3", "targets.temperatures=[8,4]", "baseline=false")
    result = again(*few)
    assert cached(result) == {"teacher"}
    folder = tmp_path / "outputs" / artifacts(result)["soft_targets"]
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(folder / "logits-00000.safetensors").items()}
    assert shapes == {"logits": (1198, 3), "classes": (1198, 3), "rest": (1198, 2)}
    assert json.loads((folder / "manifest.json").read_text())["temperatures"] == [4.0, 8.0]
    assert cached(again(*few, "temperature=8")) == {"teacher", "soft_targets"}
    assert cached(again(*few)) == {"teacher", "soft_targets", "student"}


def test_all_logits_by_rank_teach_what_dense_targets_do(
    first: tuple[Path, Outcome], again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = again("targets.top_k=10", "baseline=false")
    ours = load_file(tmp_path / "outputs" / artifacts(result)["student"] / "model.safetensors")
    dense = load_file(first[0] / "outputs" / artifacts(first[1].result)["student"] / "model.safetensors")
    for name, value in dense.items():
        torch.testing.assert_close(ours[name], value, atol=1e-4, rtol=1e-3)


def test_few_logits_without_a_students_temperature_want_temperatures(tmp_path: Path) -> None:
    done = inside("dump-targets", "targets.top_k=3", cwd=tmp_path)
    assert (done.status, done.err) == (
        1,
        "targets.temperatures must be a list of numbers > 0, got None. With targets.top_k they are all that the "
        "targets can serve: 'targets.temperatures=[1,4]'.\n",
    )


def test_a_removed_artifact_is_made_anew(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    name = artifacts(first[1].result)["soft_targets"]
    shutil.rmtree(tmp_path / "outputs" / name)
    result = inside("distill", *TINY, cwd=tmp_path).result
    assert cached(result) == {"teacher", "student", "baseline"}
    for path in (tmp_path / "outputs" / name).glob("*.safetensors"):
        assert digest(path) == digest(first[0] / "outputs" / name / path.name)


# Labels of the transfer set.


def test_a_transfer_set_without_labels(again: Callable[..., dict[str, Any]]) -> None:
    result = again("transfer.labels=none", "hard_weight=0")
    assert {"teacher", "soft_targets"} <= cached(result), "labels are not the teacher's business"
    assert result["note"] == "The transfer set has no labels: the baseline was trained on the training split."
    assert result["stages"]["baseline"]["cached"], "it is the same baseline"
    assert result["student"]["train_accuracy"] is None
    assert result["baseline"]["train_accuracy"] > 0.5


def test_a_note_is_told(first: tuple[Path, Outcome]) -> None:
    done = inside("distill", *TINY, "transfer.labels=none", "hard_weight=0", cwd=first[0])
    assert "The transfer set has no labels: the baseline was trained on the training split." in done.err


def test_a_transfer_set_with_some_labels(again: Callable[..., dict[str, Any]]) -> None:
    result = again("transfer.labels=0.3")
    assert cached(result) == {"teacher", "soft_targets"}
    assert result["note"] == "The baseline learnt from the 359 labels of the transfer set's 1,198 images."
    assert not again("transfer.labels=0.3", "transfer.seed=1")["stages"]["student"]["cached"], "other samples' labels"


# Views.

JITTER = "augment@transfer.augment=jitter"


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


def test_an_online_teacher_stores_no_targets(again: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "outputs" / "soft_targets")
    result = again("teacher.online=true", JITTER)
    assert cached(result) == {"teacher"}, "the same teacher, however it is asked"
    assert "soft_targets" not in result["stages"]
    assert not (tmp_path / "outputs" / "soft_targets").exists()
    history = (tmp_path / "outputs" / artifacts(result)["student"] / "history.jsonl").read_text()
    assert {"soft", "hard"} <= set(json.loads(history.splitlines()[0]))
    assert cached(again("teacher.online=true", JITTER)) == {"teacher", "student", "baseline"}


def test_without_augmentation_an_online_teacher_teaches_what_its_stored_targets_would(
    first: tuple[Path, Outcome], again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = again("teacher.online=true")
    assert cached(result) == {"teacher", "baseline"}
    online = load_file(tmp_path / "outputs" / artifacts(result)["student"] / "model.safetensors")
    stored = load_file(first[0] / "outputs" / artifacts(first[1].result)["student"] / "model.safetensors")
    for name, value in stored.items():
        torch.testing.assert_close(online[name], value, atol=2e-3, rtol=1e-2)


def test_an_online_teacher_has_nothing_to_dump(tmp_path: Path) -> None:
    done = inside("dump-targets", "teacher.online=true", cwd=tmp_path)
    expected = "teacher.online must be false for kd dump-targets, got True. An online teacher has nothing to dump.\n"
    assert (done.status, done.err) == (1, expected)


# Teachers from elsewhere.


def test_a_student_of_an_earlier_run_as_a_teacher(first: tuple[Path, Outcome]) -> None:
    before = first[1].result
    student = before["student"]["artifact"]
    words = ("teacher=artifact", TINY[1], "student.model.widths=[8]", "baseline=false")
    for path in (f"outputs/{student}", str(first[1].run)):
        result = inside("distill", *words, f"teacher.path={path}", cwd=first[0]).result
        assert result["teacher"]["errors"] == before["student"]["errors"]
        assert result["teacher"]["params"] == before["student"]["params"]
        assert result["stages"]["teacher"]["cached"] is True
        assert result["stages"]["teacher"]["artifact"] == student
    assert {"soft_targets", "student"} <= cached(result), "the path is not part of the identity, the weights are"


def test_a_stored_teacher_gives_the_targets_that_it_gave_when_it_was_trained(first: tuple[Path, Outcome]) -> None:
    before = first[1].result
    words = ("teacher=artifact", f"teacher.path=outputs/{before['teacher']['artifact']}", TINY[1], "baseline=false")
    result = inside("distill", *words, cwd=first[0]).result
    folder = first[0] / "outputs"
    names = [artifacts(made)["soft_targets"] for made in (before, result)]
    theirs, ours = (load_file(folder / name / "logits-00000.safetensors")["logits"] for name in names)
    assert torch.equal(theirs, ours)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_checkpoint_as_a_teacher(suffix: str, first: tuple[Path, Outcome], tmp_path: Path) -> None:
    before = first[1].result
    weights = load_file(first[0] / "outputs" / before["teacher"]["artifact"] / "model.safetensors")
    path = tmp_path / f"x.{suffix}"
    if suffix == "pt":
        torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    else:
        save_file(weights, path)
    words = ("teacher=checkpoint", f"teacher.path={path}", "model@teacher.model=cnn", "teacher.model.dropout=0.5")
    result = inside("distill", *words, TINY[1], "baseline=false", cwd=tmp_path).result
    assert result["teacher"]["errors"] == before["teacher"]["errors"]
    assert result["teacher"]["params"] == before["teacher"]["params"]


def test_the_classes_of_a_checkpoint_are_mapped_to_the_data_sets(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    before = first[1].result
    weights = load_file(first[0] / "outputs" / before["teacher"]["artifact"] / "model.safetensors")
    last = max((name.removesuffix(".weight") for name in weights if name.endswith(".weight")), key=int)
    for name in (f"{last}.weight", f"{last}.bias"):  # eleven outputs: one class that the digits lack, and reversed
        weights[name] = torch.cat([weights[name].flip(0), weights[name][:1] + 50])
    save_file(weights, tmp_path / "x.safetensors")
    words = ("teacher=checkpoint", "teacher.path=x.safetensors", "model@teacher.model=cnn")
    classes = "teacher.classes=[9,8,7,6,5,4,3,2,1,0,ten]"
    result = inside(
        "distill", *words, "teacher.model.dropout=0.5", classes, TINY[1], "baseline=false", cwd=tmp_path
    ).result
    assert result["teacher"]["errors"] == before["teacher"]["errors"]


# The join of targets and samples.


def rewrite(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Changes a stored file and makes its manifest agree: a mismatch that no digest shows."""
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": digest(folder / name)}
    seal(folder, manifest)


def swap(key: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[key] = tensors[key].roll(1, 0).contiguous()

    return change


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("samples.safetensors", "index", "holds the logits of other samples than the transfer set."),
        ("samples.safetensors", "crc32", "holds the logits of other samples than the transfer set."),
        ("logits-00000.safetensors", "logits", "is not what this teacher says of the transfer set."),
    ],
)
def test_targets_that_belong_to_other_samples_stop_the_run(
    name: str, key: str, said: str, first: tuple[Path, Outcome], tmp_path: Path
) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    folder = tmp_path / "outputs" / artifacts(first[1].result)["soft_targets"]
    rewrite(folder, name, swap(key))
    done = inside("distill", *TINY, "seed=1", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1] == f"{folder} {said} {REBUILD}"
    assert inside("distill", *TINY, "seed=1", "rebuild=true", cwd=tmp_path).status == 0


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
    words += ("student.train.batch_size=8", "teacher.train.batch_size=8", "hard_weight=0")
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


def test_the_precision_is_said_before_the_first_epoch(first: tuple[Path, Outcome]) -> None:
    said = first[1].err
    assert said.index("precision 32, chosen for precision=auto") < said.index("teacher: epoch 1/6")


def put(folder: Path, name: str, content: bytes) -> None:
    """Replaces a file, and makes the manifest agree."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": digest(folder / name)}
    seal(folder, manifest)


def drop(folder: Path, key: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (manifest["files"] if key.endswith("jsonl") else manifest).pop(key)
    seal(folder, manifest)


def spoil(folder: Path, value: float) -> None:
    state = load_file(folder / "model.safetensors")
    next(iter(reversed(state.values()))).view(-1)[0] = value
    save_file(state, folder / "model.safetensors")
    put(folder, "model.safetensors", (folder / "model.safetensors").read_bytes())


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no environment": (lambda folder: drop(folder, "environment"), "does not say how it was computed."),
    "NaN": (lambda folder: spoil(folder, float("nan")), "holds what are no numbers."),
    "infinity": (lambda folder: spoil(folder, float("inf")), "holds what are no numbers."),
    "other weights": (
        lambda folder: put(folder, "model.safetensors", save({"a": torch.zeros(2)})),
        "0.mean is missing.",
    ),
    "no safetensors": (lambda folder: put(folder, "model.safetensors", b"{}"), "is no safetensors file"),
    "no history": (lambda folder: drop(folder, "history.jsonl"), "names no history.jsonl"),
    **{
        f"a history of {text[:20]!r}": (
            lambda folder, text=text: put(folder, "history.jsonl", text),  # type: ignore[misc]
            "history.jsonl is no history (",
        )
        for text in (b"", b"{", b"[]", b"1\n2\n", b"{}\n", b'{"epoch": 7}\n', b'{"epoch": 1, "loss": []}\n', b"\xff")
    },
}


@pytest.mark.parametrize("kind", ["teacher", "student"])
@pytest.mark.parametrize("name", SPOILT)
def test_an_artifact_that_agrees_with_itself_and_cannot_serve_is_refused_and_can_be_made_anew(
    name: str, kind: str, first: tuple[Path, Outcome], tmp_path: Path
) -> None:
    spoil, said = SPOILT[name]
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    folder = tmp_path / "outputs" / first[1].result[kind]["artifact"]
    spoil(folder)
    done = inside("distill", *TINY, cwd=tmp_path)
    assert (done.status, done.out, "Traceback" in done.err) == (1, "", False)
    last = done.err.splitlines()[-1]
    assert last.startswith(str(folder))
    assert said in last
    assert last.endswith(REBUILD)
    healed = inside("distill", *TINY, "rebuild=true", cwd=tmp_path).result
    assert artifacts(healed) == artifacts(first[1].result)


# The three models draw independently.


@pytest.mark.parametrize("rate", [1e-30, 0.1])  # the weights stay the initial ones, or the order of samples counts too
def test_no_student_draws_what_a_teacher_of_its_network_recipe_and_seed_drew(rate: float, tmp_path: Path) -> None:
    same = ("model@teacher.model=mlp_64", "teacher.model.widths=[32]", "teacher.train=${student.train}")
    words = (*same, "student.model.widths=[32]", "student.train.epochs=2", f"student.train.optimizer.lr={rate}")
    result = inside("distill", *words, "soft_weight=0", "hard_weight=1", cwd=tmp_path).result
    teacher, student, baseline = (
        load_file(tmp_path / "outputs" / result[role]["artifact"] / "model.safetensors")
        for role in ("teacher", "student", "baseline")
    )
    matrices = [name for name, value in teacher.items() if value.ndim == 2]
    assert len(matrices) == 2
    for name in matrices:
        alone, taught = baseline[name].flatten(), teacher[name].flatten()
        assert not torch.equal(alone, taught)
        if rate < 1e-9:
            assert torch.equal(alone, student[name].flatten())  # these two are paired
            assert abs(torch.corrcoef(torch.stack([alone, taught]))[0, 1]) < 0.2


def test_nothing_of_a_teacher_learns_any_more(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    taught: list[train_teacher.Teacher] = []
    obtain = train_teacher.obtain
    with mock.patch.object(train_teacher, "obtain", lambda *asked: taught.append(obtain(*asked)) or taught[0]):
        assert inside("train-teacher", TINY[0], cwd=tmp_path).status == 0
    assert not any(parameter.requires_grad for parameter in taught[0].network.parameters())


@pytest.mark.parametrize(("seed", "said"), [(0, True), (1, False)])
def test_a_student_whose_teacher_was_a_student_of_its_seed_is_told(
    seed: int, said: bool, first: tuple[Path, Outcome], tmp_path: Path
) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    path = f"teacher.path={tmp_path / 'outputs' / first[1].result['student']['artifact']}"
    done = inside("distill", "teacher=artifact", path, TINY[1], f"seed={seed}", "baseline=false", cwd=tmp_path)
    assert done.status == 0, done.err
    assert ("began from the same weights: change seed" in done.err) == said
