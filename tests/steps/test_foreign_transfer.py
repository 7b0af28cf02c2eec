"""Transfer sets of another data set than the teacher's: its images, and its labels where they mean the same."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from running import TINY, inside
from safetensors.torch import load_file

from kd_cli.build.objects import instantiate
from kd_cli.cli.choices import CONFIGS
from kd_cli.data.samples import Dataset, Split
from kd_cli.datasets.digits import digits
from kd_cli.datasets.mnist import mnist
from kd_cli.datasets.noise import noise
from kd_cli.errors import ConfigError
from kd_cli.runs.session import Session
from kd_cli.steps.plan import plan_of
from kd_cli.steps.transfer import TransferSet, transfer_set

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"
NOISE = ("dataset@transfer.dataset=noise", "transfer.dataset.height=8", "transfer.dataset.width=8")
UNLABELLED_NOTE = "The transfer set has no labels: the baseline was trained on the training split."


def chosen(*overrides: str, dataset: Dataset | None = None) -> TransferSet:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("distill", overrides=list(overrides))
    return transfer_set(plan_of(cfg).transfer, dataset or instantiate(cfg.dataset, "dataset"), False, Session())


def pixels_of(split: Split) -> torch.Tensor:
    return next(split.samples.stream([torch.arange(len(split))], torch.device("cpu")))


def pictures(root: Path, *classes: str) -> None:
    for part in ("train", "test"):
        for number, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for k in range(6):
                Image.new("L", (8, 8), 9 * (6 * number + k) + (part == "test")).save(root / part / name / f"{k}.png")


def test_labels_are_kept_where_the_classes_have_the_same_names() -> None:
    foreign = digits(validation=700, seed=3)
    found = chosen(
        "dataset@transfer.dataset=digits", "transfer.dataset.validation=700", "transfer.dataset.seed=3"
    ).split
    assert torch.equal(pixels_of(found), pixels_of(foreign.transfer))
    assert torch.equal(found.labels, foreign.transfer.labels)
    fewer = chosen("dataset@transfer.dataset=digits", "transfer.labels=0.5", "transfer.only_classes=[7]").split
    assert fewer.labelled == round(0.5 * len(fewer)) > 0


def test_labels_of_other_classes_mean_nothing_here(tmp_path: Path) -> None:
    pictures(tmp_path / "pets", "cat", "dog")
    words = ("dataset@transfer.dataset=image_folder", f"transfer.dataset.root={tmp_path / 'pets'}")
    words += ("transfer.dataset.size=8", "transfer.dataset.channels=1", "transfer.dataset.workers=0")
    found = chosen(*words).split
    assert (len(found), found.labelled) == (12, 0)
    with pytest.raises(ConfigError, match=r"^transfer\.only_classes must be null for a transfer set with unlabelled"):
        chosen(*words, "transfer.only_classes=[1]")


@pytest.mark.skipif(not MNIST.is_dir(), reason="needs MNIST in ../shared")
def test_digits_of_28_pixels_are_a_labelled_transfer_set_for_mnist() -> None:
    ours = mnist(str(MNIST), download=False)
    assert digits().classes == ours.classes, "both say 0 to 9"
    found = chosen("dataset@transfer.dataset=digits", "transfer.dataset.size=28", dataset=ours).split
    assert (found.samples.spec.shape, found.labelled) == ((1, 28, 28), 1198)
    with pytest.raises(ConfigError) as refusal:
        chosen("dataset@transfer.dataset=digits", dataset=ours)
    assert str(refusal.value) == (
        "transfer.dataset must be one with images of [1, 28, 28], as dataset=mnist has, got [1, 8, 8]. "
        "Set transfer.dataset.size=28."
    )


def test_a_student_learns_from_noise_alone(tmp_path: Path) -> None:
    words = (*TINY, *NOISE, "transfer.dataset.samples=3000", "hard_weight=0", "student.train.epochs=4")
    done = inside("distill", *words, cwd=tmp_path)
    result = done.result
    assert result["note"] == UNLABELLED_NOTE
    assert UNLABELLED_NOTE in done.err
    stored = tmp_path / "outputs" / result["stages"]["soft_targets"]["artifact"]
    assert load_file(stored / "logits-00000.safetensors")["logits"].shape == (3000, 10)
    assert torch.equal(
        load_file(stored / "samples.safetensors")["crc32"],
        noise(samples=3000, height=8, width=8).transfer.samples.checksums(),
    )
    assert result["student"]["errors"] < 0.6 * 599, "chance makes 90 % errors"
    baseline = inside("distill", *TINY, "student.train.epochs=4", cwd=tmp_path).result["stages"]["baseline"]
    assert baseline["artifact"] == result["stages"]["baseline"]["artifact"], "it never saw the noise"
    assert baseline["cached"]


def test_the_stages_alone_take_it_too(tmp_path: Path) -> None:
    dumped = inside("dump-targets", TINY[0], *NOISE, "transfer.dataset.samples=100", cwd=tmp_path).result
    assert dumped["stages"]["soft_targets"]["cached"] is False
    words = (*TINY, *NOISE, "transfer.dataset.samples=100", "hard_weight=0", "baseline=false")
    assert inside("distill", *words, cwd=tmp_path).result["stages"]["soft_targets"]["cached"] is True


def test_a_job_whose_other_data_set_has_changed_in_place_is_run_again(tmp_path: Path) -> None:
    pictures(tmp_path / "pets", "cat", "dog")
    words = ("sweep", *TINY, "dataset@transfer.dataset=image_folder", "transfer.dataset.root=pets", "hard_weight=0")
    words += ("transfer.dataset.size=8", "transfer.dataset.channels=1", "transfer.dataset.workers=0", "baseline=false")
    for again in (False, True):
        done = inside(*words, cwd=tmp_path)
        assert (done.status, "is complete, and not run again" in done.err) == (0, again)
    Image.new("L", (8, 8), 200).save(tmp_path / "pets" / "train" / "cat" / "0.png")
    assert "is complete" not in inside(*words, cwd=tmp_path).err
    assert len(list((tmp_path / "outputs" / "soft_targets").iterdir())) == 2


def test_a_sweep_over_transfer_sets(tmp_path: Path) -> None:
    words = (*TINY, *NOISE, "transfer.dataset.samples=100,200", "hard_weight=0", "baseline=false")
    done = inside("sweep", *words, cwd=tmp_path)
    assert done.status == 0, done.err
    for samples in (100, 200):
        result = json.loads((done.run / f"transfer.dataset.samples-{samples}" / "result.json").read_text())
        manifest = tmp_path / "outputs" / result["stages"]["soft_targets"]["artifact"] / "manifest.json"
        assert json.loads(manifest.read_text())["samples"] == samples


@pytest.mark.parametrize("command", ["distill", "train-teacher"])
def test_noise_is_no_data_set_to_be_evaluated_on(command: str, tmp_path: Path) -> None:
    done = inside(command, "dataset=noise", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "dataset must be one with labels and test images, got 'noise'. "
        "As a transfer set, unlabelled: transfer.dataset=noise.\n"
    )
    assert not (tmp_path / "outputs").exists()
