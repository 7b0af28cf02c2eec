"""A person's own parts that do not fit: refused before any work."""

from pathlib import Path

import pytest
from own_parts import MINE, own
from running import TINY, inside, kd


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere.flat", "nowhere"),
        ("lost_models.missing", "missing"),
    ],
)
def test_a_target_that_cannot_be_found_is_named(target: str, said: str, tmp_path: Path) -> None:
    own(tmp_path, "lost_models")
    path = tmp_path / "my_configs" / "student" / "mine.yaml"
    path.write_text(path.read_text().replace("lost_models.flat", target))
    done = inside("distill", *MINE, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert "Traceback" not in done.err
    assert said in done.err
    assert "student.model" in done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes + 1))", "logits for the 10 classes"),
        ("nn.Linear(3, num_classes)", "images [1, 8, 8] of dataset=digits, got an error"),
        ("1 / 0", "got an error: division by zero"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused_before_any_work(tmp_path: Path, body: str, message: str):
    (tmp_path / "misfit.py").write_text(
        f"from torch import nn\n\n\ndef model(num_classes, input_shape):\n    return {body}\n"
    )
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "misfit.yaml").write_text("_target_: misfit.model\n_partial_: true\n")
    done = kd("distill", "--config-dir", "mine", "model@student.model=misfit", cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("student.model must be a network")
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("target", "more", "hint"),
    [
        ("kd_cli.datasets.digits.digits", "_partial_: true\n", "With _partial_ it is not called."),
        ("builtins.dict", "", "It gives a dict."),
    ],
)
def test_a_data_set_that_is_none_is_refused(tmp_path: Path, target: str, more: str, hint: str) -> None:
    (tmp_path / "my_configs" / "dataset").mkdir(parents=True)
    (tmp_path / "my_configs" / "dataset" / "none.yaml").write_text(f"_target_: {target}\n{more}")
    expected = f"must be a mapping whose _target_ gives a kd_cli.data.samples.Dataset, got {target!r}. {hint}\n"
    for word, key in (("dataset=none", "dataset"), ("transfer.dataset=none", "transfer.dataset")):
        done = inside("distill", "--config-dir", "my_configs", word, *TINY, cwd=tmp_path)
        assert (done.status, done.out, done.err) == (1, "", f"{key} {expected}")
        assert not (tmp_path / "outputs").exists()


def test_evaluate_refuses_a_data_set_that_is_none(tmp_path: Path) -> None:
    made = inside("train-teacher", TINY[0], cwd=tmp_path).run
    done = inside("evaluate", f"path={made}", "dataset=digits", "+dataset._partial_=true", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith("got 'kd_cli.datasets.digits.digits'. With _partial_ it is not called.\n")


NO_IMAGES = """
import torch

from kd_cli.data.resident import Resident
from kd_cli.data.spec import image_spec
from kd_cli.data.splits import assemble, whole


class Own:
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    @property
    def spec(self):
        return image_spec(self.values.shape[1:])

    def stream(self, batches, device):
        for positions in batches:
            yield self.values[positions].to(device)

    def checksums(self):
        return torch.zeros(len(self.values), dtype=torch.int64)

    def select(self, positions):
        return Own(self.values[positions])

    @property
    def digest(self):
        return "0"


def samples(kind):
    tokens = torch.arange(64 * 12) % 7
    values, hold, shape = {
        "tokens": (tokens.view(64, 12), Resident, (12, 1, 1)),
        "tokens as images": (tokens.view(64, 1, 3, 4), Resident, (1, 3, 4)),
        "tokens of my own": (tokens.view(64, 1, 3, 4), Own, (1, 3, 4)),
        "features of my own": (tokens.view(64, 12).float(), Own, (12, 1, 1)),
        "floats of my own": (torch.rand(64, 1, 3, 4), Own, (1, 3, 4)),
        "another shape": (tokens.view(64, 1, 3, 4).byte(), Own, (1, 4, 3)),
    }[kind]
    split = whole(hold(values), torch.arange(64) % 2)
    return assemble("samples", split, split, ["even", "odd"], shape, 0, 0)
"""
RULE = "dataset must be one of uint8 images [channels, height, width], got"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("tokens", f"{RULE} int64 samples of [12]."),
        ("tokens as images", f"{RULE} int64 samples of [1, 3, 4]."),
        ("tokens of my own", f"{RULE} int64 of [1, 3, 4]."),
        ("features of my own", f"{RULE} samples of [12]."),
        ("floats of my own", f"{RULE} float32 of [1, 3, 4]."),
        ("another shape", "samples: images must have its input_shape [1, 4, 3], got [1, 3, 4]."),
    ],
)
def test_samples_that_are_no_images_are_refused_before_any_work(kind: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "no_images.py").write_text(NO_IMAGES)
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "samples.yaml").write_text(f"_target_: no_images.samples\nkind: {kind}\n")
    done = inside("distill", "--config-dir", "mine", "dataset=samples", "teacher=mlp_1200", *TINY, cwd=tmp_path)
    assert done.status == 1
    assert message in done.err
    assert "Traceback" not in done.err
    assert not list((tmp_path / "outputs").glob("teachers/*"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("images / 510", "images [n, channels, height, width], as it was given, got float32 of [1, 8, 8] from half."),
        ("images.matmul(images[0, 0, :3])", "one for images [1, 8, 8], got an error from half: "),
    ],
    ids=["floats", "raises"],
)
@pytest.mark.parametrize(
    ("command", "key"), [("train-teacher", "teacher"), ("distill", "transfer"), ("dump-targets", "transfer")]
)
def test_an_augmentation_that_does_not_fit_is_refused_before_any_work(
    command: str, key: str, body: str, message: str, tmp_path: Path
) -> None:
    name = f"augment_{key}_{command.replace('-', '_')}_{len(body)}"  # modules stay in this process
    (tmp_path / f"{name}.py").write_text(f"def half(images, index, seed, view):\n    return {body}\n")
    (tmp_path / "mine" / "augment").mkdir(parents=True)
    (tmp_path / "mine" / "augment" / "half.yaml").write_text(f"_target_: {name}.half\n_partial_: true\n")
    done = inside(command, "--config-dir", "mine", f"augment@{key}.augment=half", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert f"{key}.augment must be one" in done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert not list((tmp_path / "outputs").glob("teachers/*/manifest.json"))
