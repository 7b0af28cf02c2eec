"""Every wrong input gets one message, exit status 1, no traceback, and leaves nothing behind."""

import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from running import TINY, files_below, inside, kd
from safetensors.torch import load_file, save_file

from kd_cli.cli.choices import CONFIGS
from kd_cli.data import splits
from kd_cli.store.artifacts import REBUILD


def choices(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")))


QUOTE = "A shell replaces an unquoted ${…}: quote it, as in 'teacher.seed=${seed}'."
DATASETS = "cifar10, cifar100, confusable, digits, fashion_mnist, image_folder, mnist, noise"
IDX = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"
RULE = "a fraction below 1, a count below 1198 (the size of the training split), or 0"

NOISE = "dataset@transfer.dataset=noise transfer.dataset.height=8 transfer.dataset.width=8"

# Found in the config, before torch is imported.
WITHOUT_TORCH = [
    ("temperature=0", "temperature must be a number > 0, got 0.0."),
    ("temperature=-1", "temperature must be a number > 0, got -1.0."),
    ("temperature=nan", "temperature must be a number > 0, got nan."),
    ("temperature=inf", "temperature must be a number > 0, got inf."),
    ("temperature=hot", "temperature must be a number, got 'hot'."),
    ("temperature=", "temperature must be a number, got ''."),
    ("soft_weight=-1", "soft_weight must be a number ≥ 0, got -1.0."),
    ("soft_weight=much", "soft_weight must be a number, got 'much'."),
    ("hard_weight=-0.5", "hard_weight must be a number ≥ 0, got -0.5."),
    ("hard_weight=nan", "hard_weight must be a number ≥ 0, got nan."),
    (
        "soft_weight=0 hard_weight=0",
        "soft_weight or hard_weight must be > 0, got 0. With both zero there is nothing to learn from.",
    ),
    ("dataset=mnits", f"dataset must be one of {DATASETS}, got 'mnits'. Did you mean 'mnist'?"),
    ("dataset=zzz", f"dataset must be one of {DATASETS}, got 'zzz'."),
    (
        "teacher=cnn_digit",
        f"teacher must be one of {choices('teacher')}, got 'cnn_digit'. Did you mean 'cnn_digits'?",
    ),
    (
        "+student.modle.widths=[3]",
        "student must be a mapping of model, train, got 'modle'. Did you mean 'model'?",
    ),
    ("student=mlp64", f"student must be one of {choices('student')}, got 'mlp64'. Did you mean 'mlp_64'?"),
    ("student=", f"student must be one of {choices('student')}, got ''."),
    ("objective=hintn", f"objective must be one of {choices('objective')}, got 'hintn'. Did you mean 'hinton'?"),
    ("model@student.model=cn", f"model must be one of {choices('model')}, got 'cn'. Did you mean 'cnn'?"),
    (
        "augment@transfer.augment=jiter",
        f"augment must be one of {choices('augment')}, got 'jiter'. Did you mean 'jitter'?",
    ),
    ("temprature=3", "temprature must be a key of kd distill, got 'temprature=3'. Did you mean 'temperature'?"),
    (
        "student.train.epoch=3",
        "student.train.epoch must be a key of kd distill, got 'student.train.epoch=3'. Did you mean 'epochs'?",
    ),
    (
        "student.model.wdths=[3]",
        "student.model.wdths must be a key of kd distill, got 'student.model.wdths=[3]'. Did you mean 'widths'?",
    ),
    ("seed=", f"seed must be a whole number, got ''. {QUOTE}"),
    ("seed=1.5", f"seed must be a whole number, got '1.5'. {QUOTE}"),
    ("seed=abc", f"seed must be a whole number, got 'abc'. {QUOTE}"),
    ("seed=-1", f"seed must be a whole number ≥ 0, got -1. {QUOTE}"),
    ("teacher.seed=", f"teacher.seed must be a whole number ≥ 0, got ''. {QUOTE}"),
    ("teacher.seed=x", f"teacher.seed must be a whole number ≥ 0, got 'x'. {QUOTE}"),
    ("transfer.seed=1.5", f"transfer.seed must be a whole number ≥ 0, got 1.5. {QUOTE}"),
    ("dataset.seed=-1", f"dataset.seed must be a whole number ≥ 0, got -1. {QUOTE}"),
    (
        "student.model=cnn",
        "student.model must be a mapping, got 'cnn'. "
        "To choose a file of configs/model/, write model@student.model=cnn.",
    ),
    (
        "teacher.model=cnn",
        "teacher.model must be a mapping, got 'cnn'. "
        "To choose a file of configs/model/, write model@teacher.model=cnn.",
    ),
    (
        "student.train.optimizer=adamw",
        "student.train.optimizer must be a mapping, got 'adamw'. "
        "To choose a file of configs/optimizer/, write optimizer@student.train.optimizer=adamw.",
    ),
    (
        "transfer.augment=jitter",
        "transfer.augment must be a mapping, got 'jitter'. "
        "To choose a file of configs/augment/, write augment@transfer.augment=jitter.",
    ),
    (
        "augment@transfer.augment=mixup transfer.augment.inner=jitter",
        "transfer.augment.inner must be a mapping, got 'jitter'. "
        "To choose a file of configs/augment/, write augment@transfer.augment.inner=jitter.",
    ),
    (
        "augment@transfer.augment=cutmix augment@transfer.augment.inner=mixup",
        "transfer.augment.inner must be null or an augmentation of single images, got 'Mixup'. "
        "A mixture is of two images.",
    ),
    (
        "augment@teacher.augment=affine teacher.augment.degrees=200",
        "teacher.augment.degrees must be between 0 and 180, got 200.",
    ),
    (
        "transfer.dataset.size=28",
        "transfer.dataset.size must be a key of kd distill, got 'transfer.dataset.size=28'. "
        "Write: kd distill transfer.dataset=digits transfer.dataset.size=28",
    ),
    ("transfer.dataset=mnits", f"dataset must be one of {DATASETS}, got 'mnits'. Did you mean 'mnist'?"),
    ("bias_correction=priors", "bias_correction must be one of prior, oracle, got 'priors'."),
    (
        "bias_correction=oracle",
        "bias_correction must be prior or null without transfer.omit_classes or only_classes, got 'oracle'. "
        "It shifts the classes that these name.",
    ),
    ("device=gpu", "device must be one of auto, cpu, cuda, mps, cuda:<number>, got 'gpu'."),
    ("precision=16", "precision must be one of auto, 32, bf16-mixed, 16-mixed, got '16'."),
    ("budget=medium", "budget must be one of short, full, got 'medium'."),
    ("baseline=perhaps", "baseline must be true or false, got 'perhaps'."),
    ("compile=perhaps", "compile must be true or false, got 'perhaps'."),
    ("teacher=artifact", "teacher.path must be given: teacher.path=…"),
    ("teacher=checkpoint", f"model@teacher.model must be given, one of {choices('model')}: model@teacher.model=…"),
    (
        "foo",
        "An argument must be key=value, got 'foo'. Quote values that hold special characters: 'key=\"a value\"'.",
    ),
]

# Found once the objects are built, still before any work.
WITH_TORCH = [
    ("student.train.epochs=0", "student.train.epochs must be a whole number ≥ 1, got 0."),
    ("student.train.epochs=many", "student.train.epochs must be a whole number ≥ 1, got 'many'."),
    ("teacher.train.epochs=1.5", "teacher.train.epochs must be a whole number ≥ 1, got 1.5."),
    ("student.train.batch_size=0", "student.train.batch_size must be a whole number ≥ 1, got 0."),
    ("teacher.train.batch_size=-4", "teacher.train.batch_size must be a whole number ≥ 1, got -4."),
    ("student.train.clip=-1", "student.train.clip must be > 0 or null, got -1."),
    ("student.train.max_norm=0", "student.train.max_norm must be > 0 or null, got 0."),
    ("student.train.select=best", "student.train.select must be last or best_validation, got 'best'."),
    (
        "teacher.train.select=best_validation",
        "teacher.train.select must be last where there is no validation split, got 'best_validation'. "
        "Set dataset.validation=0.1.",
    ),
    (
        "student.train.optimizer.lr=-1",
        "student.train.optimizer must be one that torch accepts, got an error: Invalid learning rate: -1.",
    ),
    (
        "student.train.scheduler.warmup=2",
        "student.train.scheduler.warmup must be a share of the run, ≥ 0 and < 1, got 2.",
    ),
    ("student.train.precision=8", "student.train.precision must be one of auto, 32, bf16-mixed, 16-mixed, got '8'."),
    ("student.model.widths=[0]", "student.model.widths must be a list of whole numbers ≥ 1, got [0]."),
    ("student.model.widths=30", "student.model.widths must be a list of whole numbers ≥ 1, got 30."),
    ("teacher.model.dropout=1", "teacher.model.dropout must be ≥ 0 and < 1, got 1."),
    ("student.model.std=[0]", "student.model.std must be > 0, got [0]."),
    (
        "student=resnet20 normalisation.mean=[0.5071,0.4867,0.4408]",
        "student.model.mean must be one number, or one for each of 1 channel(s), got [0.5071, 0.4867, 0.4408].",
    ),
    ("teacher.online=maybe", "teacher.online must be true or false, got 'maybe'."),
    (
        "transfer.labels=none",
        "hard_weight must be 0 for a transfer set without labels, got 0.1. "
        "Set hard_weight=0, or set transfer.labels=all.",
    ),
    ("transfer.labels=2", "transfer.labels must be all, none or a fraction between 0 and 1, got 2."),
    ("transfer.labels=some", "transfer.labels must be all, none or a fraction between 0 and 1, got 'some'."),
    ("transfer.views=0", "transfer.views must be a whole number ≥ 1, got 0."),
    (
        "transfer.views=2",
        "transfer.views must be 1 where transfer.augment is null, got 2. Choose one: augment@transfer.augment=jitter.",
    ),
    ("targets.dtype=int8", "targets.dtype must be one of float16, float32, got 'int8'."),
    ("+targets.k=3", "targets must be a mapping of dtype, top_k, temperatures, got 'k'."),
    ("targets.top_k=2.5", "targets.top_k must be a whole number, got '2.5'."),
    ("targets.top_k=0", "targets.top_k must be a whole number from 1 to 10, the number of classes, or null, got 0."),
    ("targets.top_k=11", "targets.top_k must be a whole number from 1 to 10, the number of classes, or null, got 11."),
    (
        "targets.top_k=3 teacher.online=true",
        "targets.top_k must be null with teacher.online=true, which stores no targets, got 3.",
    ),
    (
        "targets.top_k=3 targets.temperatures=[1,2]",
        "temperature must be one of those the stored targets state (1, 2), got 4.0. Add it to targets.temperatures.",
    ),
    (
        "targets.top_k=3 targets.temperatures=[0,4]",
        "targets.temperatures must be a list of numbers > 0, got [0.0, 4.0]. With targets.top_k they are all that the "
        "targets can serve: 'targets.temperatures=[1,4]'.",
    ),
    (
        "dataset=noise",
        "dataset must be one with labels and test images, got 'noise'. "
        "As a transfer set, unlabelled: transfer.dataset=noise.",
    ),
    (
        "dataset@transfer.dataset=noise",
        "transfer.dataset must be one with images of [1, 8, 8], as dataset=digits has, got [1, 28, 28]. "
        "Set transfer.dataset.height=8 transfer.dataset.width=8.",
    ),
    (
        "dataset@transfer.dataset=digits transfer.dataset.size=28",
        "transfer.dataset must be one with images of [1, 8, 8], as dataset=digits has, got [1, 28, 28]. "
        "Set transfer.dataset.size=8.",
    ),
    (
        NOISE,
        "hard_weight must be 0 for a transfer set without labels, got 0.1. "
        "Set hard_weight=0, or choose a transfer.dataset with labels of the classes of dataset=digits.",
    ),
    (
        f"{NOISE} hard_weight=0 transfer.omit_classes=[3]",
        "transfer.omit_classes must be null for a transfer set with unlabelled samples, whose classes nobody knows, "
        "got [3].",
    ),
    (f"{NOISE} transfer.dataset.std=0", "transfer.dataset.std must be > 0 and ≤ 1, got 0."),
    (f"{NOISE} transfer.dataset.seed=x", "transfer.dataset.seed must be a whole number ≥ 0, got 'x'."),
    ("dataset.size=0", "dataset.size must be a whole number from 1 to 256, got 0."),
    ("dataset.validation=5000", f"dataset.validation must be {RULE}, got 5000."),
    ("dataset.validation=-1", f"dataset.validation must be {RULE}, got -1."),
    (
        "dataset=mnist dataset.root=nowhere dataset.download=false",
        f"dataset.root must be a folder that holds mnist, got 'nowhere', where there is no {IDX} (.gz or unpacked), "
        f"and it was not downloaded. Put the four files {IDX} into nowhere or nowhere/MNIST/raw, "
        "or give another dataset.root=<folder>.",
    ),
    (
        "dataset=fashion_mnist dataset.root=nowhere dataset.download=false",
        f"dataset.root must be a folder that holds fashion_mnist, got 'nowhere', where there is no {IDX} (.gz or "
        f"unpacked), and it was not downloaded. Put the four files {IDX} into nowhere or nowhere/FashionMNIST/raw, "
        "or give another dataset.root=<folder>.",
    ),
    (
        "dataset=image_folder dataset.root=nowhere",
        "dataset.root must be a folder with train/ and test/, got 'nowhere', where there is no train/. "
        "Lay it out as train/<class>/<image>, or give another dataset.root=<folder>.",
    ),
    (
        "teacher=artifact teacher.path=nowhere",
        "teacher.path must be a run folder or a folder of teachers/ or students/, got 'nowhere'.",
    ),
    (
        "teacher=checkpoint model@teacher.model=cnn teacher.path=x.pt",
        "teacher.path must be a checkpoint (.safetensors, .pt or .pth), got 'x.pt', no file.",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), WITHOUT_TORCH + WITH_TORCH)
def test_one_message_and_nothing_left_behind(overrides: str, message: str, tmp_path: Path) -> None:
    done = inside("distill", *overrides.split(" "), cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", message + "\n")
    assert files_below(tmp_path) == []


INSTALLED = [
    "temperature=0",
    "temperature=hot",
    "dataset=mnits",
    "student=mlp64",
    "temprature=3",
    "seed=",
    "student.model=cnn",
    "soft_weight=0 hard_weight=0",
    "student.train.epochs=0",
    "transfer.labels=none",
    "teacher=artifact teacher.path=nowhere",
]


@pytest.mark.parametrize("overrides", INSTALLED)
def test_the_installed_command_says_the_same(overrides: str, tmp_path: Path) -> None:
    done = kd("distill", *overrides.split(" "), cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", dict(WITHOUT_TORCH + WITH_TORCH)[overrides] + "\n")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("command", ["train-teacher", "dump-targets"])
def test_the_other_run_commands_refuse_alike(command: str, tmp_path: Path) -> None:
    done = inside(command, "teacher.train.epochs=0", cwd=tmp_path)
    expected = "teacher.train.epochs must be a whole number ≥ 1, got 0.\n"
    assert (done.status, done.out, done.err) == (1, "", expected)
    assert files_below(tmp_path) == []


def test_kd_traceback_shows_where_it_happened(tmp_path: Path) -> None:
    done = kd("distill", "temperature=0", cwd=tmp_path, KD_TRACEBACK="1")
    assert done.status == 1
    assert done.err.startswith("Traceback (most recent call last):")
    assert done.err.splitlines()[-1] == "kd_cli.errors.ConfigError: temperature must be a number > 0, got 0.0."
    assert files_below(tmp_path) == []


def test_several_values_for_a_key_point_to_kd_sweep(tmp_path: Path) -> None:
    done = inside("distill", "temperature=1,2", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == "Several values for a key make a sweep. Write kd sweep temperature=1,2.\n"
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "word",
    ["student=null", "teacher.train=abc", "student.train=null", "~student", "~student.model", "trusted_modules=abc"],
)
def test_no_odd_override_ends_in_a_traceback(word: str, tmp_path: Path) -> None:
    done = inside("distill", word, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err
    assert "full_key" not in done.err
    assert done.err.count("\n") == 1, done.err
    assert word.partition("=")[0].lstrip("~") in done.err
    assert files_below(tmp_path) == []


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    there = "auto, mps, cpu" if torch.backends.mps.is_available() else "auto, cpu"
    done = inside("distill", "device=cuda", cwd=tmp_path)
    expected = f"device must be one that this machine has ({there}), got 'cuda'.\n"
    assert (done.status, done.out, done.err) == (1, "", expected)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("below", ["plain", "plain/deeper"])
def test_an_output_folder_below_a_plain_file(below: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("mine")
    done = inside("distill", f"output_dir={below}", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"output_dir must be a folder that can be written, got '{below}/runs/")
    assert done.err.endswith("'. Not a directory.\n")
    assert done.err.count("\n") == 1
    assert files_below(tmp_path) == ["plain"]
    assert (tmp_path / "plain").read_text() == "mine"


def test_an_output_folder_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    done = inside("distill", "output_dir=locked", cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("output_dir must be a folder that can be written, got 'locked/runs")
    assert done.err.endswith("Permission denied.\n")


def test_a_refusal_leaves_what_was_there_before(tmp_path: Path) -> None:
    inside("train-teacher", "teacher.train.epochs=1", cwd=tmp_path)
    before = files_below(tmp_path)
    assert inside("distill", "student.train.epochs=0", cwd=tmp_path).status == 1
    assert inside("distill", "temperature=0", cwd=tmp_path).status == 1
    assert files_below(tmp_path) == before


# Failures after the input was accepted.


def test_a_loss_that_is_lost_says_when_and_what_to_try(tmp_path: Path) -> None:
    done = kd("distill", *TINY, "teacher.train.optimizer.lr=1e9", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.lower().startswith("the loss turned nan in epoch 1 of 6 at learning rate 1.42857e+08.")
    for key in ("teacher.train.optimizer.lr", "teacher.train.clip=1", "teacher.train.precision=32"):
        assert key in last
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "failed"
    assert result["error"] == last
    assert result["command"] == "distill"
    assert (result["dataset"], result["seed"], result["temperature"]) == ("digits", 0, 4.0)
    assert [
        path.name for path in (tmp_path / "outputs").glob("*/*") if path.parent.name not in ("runs", ".locks")
    ] == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outputs of one run, never to be changed."""
    folder = tmp_path_factory.mktemp("made")
    assert inside("distill", *TINY, "baseline=false", cwd=folder).status == 0
    return folder


@pytest.fixture
def stored(made: Path, tmp_path: Path) -> Path:
    """The same in a folder of its own, to be damaged."""
    shutil.copytree(made / "outputs", tmp_path / "outputs")
    return tmp_path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["teachers", "soft_targets", "students"])
def test_a_damaged_artifact_is_refused_by_name(kind: str, stored: Path) -> None:
    (folder,) = (stored / "outputs" / kind).iterdir()
    path = next(folder.glob("[lm]*.safetensors"))
    flip(path)
    done = inside("distill", *TINY, "baseline=false", cwd=stored)
    assert (done.status, done.out) == (1, "")
    expected = f"{path} is damaged: it differs from its manifest. {REBUILD}"
    assert done.err.splitlines()[-1] == expected
    assert "Traceback" not in done.err

    anew = inside("distill", *TINY, "baseline=false", "rebuild=true", cwd=stored)
    assert anew.status == 0, anew.err
    assert f"moved aside to {folder.name}.damaged-1, made anew" in anew.err
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, f"{folder.name}.damaged-1"]
    found = inside("distill", *TINY, "baseline=false", cwd=stored).result
    assert {stage["cached"] for stage in found["stages"].values()} == {True}


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_damaged_artifact_is_not_answered_with(command: str, stored: Path) -> None:
    (folder,) = (stored / "outputs" / "students").iterdir()
    flip(folder / "model.safetensors")
    words = ["images=."] if command == "predict" else []
    done = inside(command, f"path={folder}", *words, cwd=stored)
    path = folder / "model.safetensors"
    expected = f"{path} is damaged: it differs from its manifest. {REBUILD}\n"
    assert (done.status, done.out, done.err) == (1, "", expected)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_missing_path(command: str, tmp_path: Path) -> None:
    words = ["images=."] if command == "predict" else []
    expected = "path must be a run folder or a folder of teachers/ or students/, got 'nowhere'.\n"
    done = inside(command, "path=nowhere", *words, cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", expected)
    done = inside(command, *words, cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", "path must be given: path=…\n")
    assert files_below(tmp_path) == []


def test_a_folder_that_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = inside("evaluate", "path=empty", cwd=tmp_path)
    assert (done.status, done.err) == (1, "empty is not an artifact of kd: it has no manifest.json.\n")


def test_images_that_are_not_there(made: Path, tmp_path: Path) -> None:
    (student,) = (made / "outputs" / "students").iterdir()
    done = inside("predict", f"path={student}", "images=nowhere", cwd=tmp_path)
    expected = "images must be a file or a folder of images, got 'nowhere', which does not exist.\n"
    assert (done.status, done.out, done.err) == (1, "", expected)
    assert inside("predict", f"path={student}", cwd=tmp_path).err == "images must be given: images=…\n"


@pytest.mark.parametrize(
    ("command", "formats"), [("evaluate", "table, json, csv"), ("predict", "csv, json")], ids=["evaluate", "predict"]
)
def test_an_unknown_format(command: str, formats: str, tmp_path: Path) -> None:
    done = inside(command, "path=x", *(["images=x"] if command == "predict" else []), "format=xml", cwd=tmp_path)
    assert (done.status, done.err) == (1, f"format must be one of {formats}, got 'xml'.\n")


# Teachers that do not fit.


def folders(root: Path, classes: list[str], size: int, each: int = 3) -> None:
    for part in ("train", "test"):
        for number, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for k in range(each):
                Image.new("L", (size, size), (40 * number + 7 * k) % 256).save(root / part / name / f"{k}.png")


def image_folder(root: str, size: int) -> list[str]:
    return [
        "dataset=image_folder",
        f"dataset.root={root}",
        f"dataset.size={size}",
        "dataset.channels=1",
        "dataset.workers=0",
    ]


def test_a_teacher_for_other_classes(made: Path, tmp_path: Path) -> None:
    folders(tmp_path / "pets", ["cat", "dog"], 8)
    (teacher,) = (made / "outputs" / "teachers").iterdir()
    done = inside(
        "distill", *image_folder("pets", 8), "teacher=artifact", f"teacher.path={teacher}", TINY[1], cwd=tmp_path
    )
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"teacher.path must be a model with the classes of dataset=image_folder, got {str(teacher)!r}, "
        "whose classes is [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] instead of [cat, dog].\n"
    )
    assert not (tmp_path / "outputs").exists()


def test_a_teacher_for_another_input_shape(made: Path, tmp_path: Path) -> None:
    folders(tmp_path / "tens", [str(k) for k in range(10)], 9, each=2)
    (teacher,) = (made / "outputs" / "teachers").iterdir()
    done = inside(
        "distill", *image_folder("tens", 9), "teacher=artifact", f"teacher.path={teacher}", TINY[1], cwd=tmp_path
    )
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"teacher.path must be a model with the input shape of dataset=image_folder, got {str(teacher)!r}, "
        "whose input shape is [1, 8, 8] instead of [1, 9, 9].\n"
    )
    assert not (tmp_path / "outputs").exists()


def checkpoint(folder: Path, path: str, *words: str) -> str:
    """What is said of this checkpoint."""
    done = inside(
        "distill",
        TINY[1],
        "teacher=checkpoint",
        "model@teacher.model=cnn",
        f"teacher.path={path}",
        *words,
        cwd=folder,
    )
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err
    assert "UserWarning" not in done.err
    assert done.err.count("\n") == 1, done.err
    assert not (folder / "outputs").exists()
    return done.err.rstrip("\n")


TENSORS = (
    "teacher.path must be a checkpoint that holds tensors alone (.safetensors, or .pt that loads with "
    "weights_only=True), got "
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pt", b""),
        ("a.pt", b"junk"),
        ("a.pt", b"\x80\x04junk and more of it"),
        ("a.pth", b"PK\x03\x04 half a zip"),
        ("a.safetensors", b""),
        ("a.safetensors", b"junk"),
        ("a.safetensors", bytes([255] * 64)),
    ],
)
def test_a_checkpoint_of_another_format(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert checkpoint(tmp_path, name).startswith(f"{TENSORS}{name!r}")


class Marker:
    """Its pickle makes a folder when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def test_a_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"weights": Marker()}, tmp_path / "evil.pt")
    said = checkpoint(tmp_path, "evil.pt")
    assert said.startswith(f"{TENSORS}'evil.pt'")
    assert "False" not in said, "no advice to switch the protection off"
    assert not (tmp_path / "executed").exists()


def test_a_whole_module_is_no_state_dict(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    assert checkpoint(tmp_path, "module.pt").startswith(f"{TENSORS}'module.pt'")


def test_a_list_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    expected = "teacher.path must be a state dict (names and tensors), got another format in 'list.pt'."
    assert checkpoint(tmp_path, "list.pt") == expected


@pytest.fixture
def weights(made: Path) -> dict[str, torch.Tensor]:
    (teacher,) = (made / "outputs" / "teachers").iterdir()
    return load_file(teacher / "model.safetensors")


def test_keys_that_do_not_fit_are_listed(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    weights["extra"] = weights.pop("8.weight")
    weights["8.bias"] = torch.zeros(3)
    save_file(weights, tmp_path / "x.safetensors")
    assert checkpoint(tmp_path, "x.safetensors") == (
        "teacher.path=x.safetensors does not fit teacher.model. "
        "Keys missing: 8.weight; unexpected: extra; of another shape: 8.bias [3] instead of [128]."
    )


def test_classes_of_a_checkpoint_must_hold_those_of_the_data_set(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(weights, tmp_path / "x.safetensors")
    assert checkpoint(tmp_path, "x.safetensors", "teacher.classes=[0,1,2,3,4,5,6,7,8]") == (
        "teacher.classes must be a list that holds every class of dataset=digits, "
        "got ['0', '1', '2', '3', '4', '5', '6', '7', '8']. Missing: ['9']."
    )
    assert checkpoint(tmp_path, "x.safetensors", "teacher.classes=[0,1,2,3,4,5,6,7,8,9,9]") == (
        "teacher.classes must be a list without repetition, "
        "got ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '9']."
    )


# Data that is damaged.


def idx(path: Path, count: int, dimensions: int) -> None:
    shape = (count, 2, 2) if dimensions == 3 else (count,)
    body = bytes(k % 10 for k in range(count * (4 if dimensions == 3 else 1)))
    path.write_bytes(bytes([0, 0, 8, dimensions]) + struct.pack(f">{dimensions}I", *shape) + body)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Four small files in MNIST's format."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, count in (("train", 40), ("t10k", 20)):
        idx(folder / f"{part}-images-idx3-ubyte", count, 3)
        idx(folder / f"{part}-labels-idx1-ubyte", count, 1)
    return folder


def refusal(tmp_path: Path) -> str:
    words = ("dataset=mnist", "dataset.root=mnist", "dataset.download=false", "teacher=cnn_digits")
    done = inside("distill", *words, *TINY, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert not (tmp_path / "outputs").exists()
    return done.err.rstrip("\n")


IMAGES = "mnist/train-images-idx3-ubyte"


def test_truncated_data(mnist: Path, tmp_path: Path) -> None:
    path = tmp_path / IMAGES
    path.write_bytes(path.read_bytes()[:-3])
    assert refusal(tmp_path) == f"{IMAGES} is truncated or altered: 173 bytes, 176 by its header."


def test_data_of_another_format(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / IMAGES).write_bytes(b"<html>not found</html>")
    expected = f"{IMAGES} is not an IDX file of 3 dimension(s) of unsigned bytes. Fetch it again."
    assert refusal(tmp_path) == expected


def test_truncated_gzip(mnist: Path, tmp_path: Path) -> None:
    path = tmp_path / IMAGES
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()
    assert refusal(tmp_path).startswith(f"{IMAGES}.gz is damaged and cannot be unpacked (")


def test_one_file_missing(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / IMAGES).unlink()
    assert refusal(tmp_path) == (
        "dataset.root must be a folder that holds mnist, got 'mnist', where there is no train-images-idx3-ubyte "
        f"(.gz or unpacked), and it was not downloaded. Put the four files {IDX} into mnist or mnist/MNIST/raw, "
        "or give another dataset.root=<folder>."
    )


def test_fewer_labels_than_images(mnist: Path, tmp_path: Path) -> None:
    idx(mnist / "train-labels-idx1-ubyte", 39, 1)
    assert refusal(tmp_path) == f"{IMAGES} holds 40 images, but there are 39 labels beside it."


def test_images_that_cannot_be_decoded_are_all_listed_before_training(tmp_path: Path) -> None:
    folders(tmp_path / "pets", ["cat", "dog"], 8)
    (tmp_path / "pets/train/cat/bad.png").write_bytes(b"no image")
    (tmp_path / "pets/test/dog/empty.jpg").write_bytes(b"")
    cut = (tmp_path / "pets/train/dog/0.png").read_bytes()
    (tmp_path / "pets/train/dog/cut.png").write_bytes(cut[: len(cut) // 2])
    done = inside("distill", *image_folder("pets", 8), *TINY, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    first, *listed = done.err.splitlines()
    assert first == "3 image(s) cannot be decoded; mend or remove them:"
    assert [line.strip().partition(": ")[0] for line in listed] == [
        "pets/train/cat/bad.png",
        "pets/train/dog/cut.png",
        "pets/test/dog/empty.jpg",
    ]
    assert not (tmp_path / "outputs").exists()


def test_an_image_that_vanishes_amid_training_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path / "pets", ["cat", "dog"], 8)
    gone = tmp_path / "pets/train/cat/1.png"

    def loaded(*parts: Any) -> Any:
        dataset = splits.assemble(*parts)
        gone.unlink()
        return dataset

    monkeypatch.setattr("kd_cli.datasets.image_folder.KEPT", 0)
    monkeypatch.setattr("kd_cli.datasets.image_folder.assemble", loaded)
    done = inside("train-teacher", *image_folder("pets", 8), "teacher=cnn_digits", TINY[0], cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1] == (
        "pets/train/cat/1.png could be decoded when the data were loaded, and now: cannot be read (No such file or "
        "directory). Put it back as it was: the same command then goes on."
    )
    assert "Traceback" not in done.err


def test_an_image_outside_the_classes(tmp_path: Path) -> None:
    folders(tmp_path / "pets", ["cat", "dog"], 8)
    (tmp_path / "pets/test/dog").rename(tmp_path / "pets/test/dgo")
    done = inside("distill", *image_folder("pets", 8), *TINY, cwd=tmp_path)
    expected = "pets/test/dgo/0.png is in no class of pets/train (cat, dog).\n"
    assert (done.status, done.out, done.err) == (1, "", expected)


# Sweeps.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("student=mlp_64,foo", f"student must be one of {choices('student')}, got 'foo'."),
        ("temprature=1,2", "temprature must be a key of kd sweep, got 'temprature=1,2'. Did you mean 'temperature'?"),
    ],
)
def test_a_refused_sweep_leaves_nothing_behind(words: str, message: str, tmp_path: Path) -> None:
    done = inside("sweep", *words.split(" "), cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", message + "\n")
    assert files_below(tmp_path) == []
