"""A person's own model, objective and data set: one Python file and one YAML in a folder of their own."""

import json
from pathlib import Path

import pytest
from running import TINY, Outcome, inside, kd

MODELS = """
from torch import nn


def flat(num_classes, input_shape, width=8):
    channels, height, side = input_shape
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * side, width), nn.{activation}(), nn.Linear(width, num_classes)
    )
"""
STUDENT = """
# A student of my own.
defaults:
  - /optimizer@train.optimizer: sgd
  - /scheduler@train.scheduler: cosine
  - _self_

model:
  _target_: {module}.flat
  _partial_: true
  width: 8
train:
  _target_: kd_cli.train.recipe.Recipe
  epochs: 2
  batch_size: 64
"""
OBJECTIVE = '''
from torch.nn import functional as F


class Mse:
    """Squared distance of the logits."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, logits, batch):
        distance = F.mse_loss(logits, batch.teacher_logits)
        return {"loss": self.weight * distance, "distance": distance}
'''
DATASET = '''
import torch

from kd_cli.data.resident import Resident
from kd_cli.data.splits import assemble, whole


def stripes(count=64, validation=0, seed=0):
    """Images with an upright or a lying stripe."""
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 60, (count, 1, 6, 6), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    pixels[labels == 0, :, :, 2:4] += 150
    pixels[labels == 1, :, 2:4, :] += 150
    split = whole(Resident(pixels), labels)
    half = torch.arange(count // 2)
    parts = split.select(half), split.select(half + count // 2)
    return assemble("stripes", *parts, ["upright", "lying"], (1, 6, 6), validation, seed)
'''


def own(folder: Path, module: str, activation: str = "ReLU") -> None:
    """Writes `<module>.py` and `my_configs/student/mine.yaml`."""
    (folder / f"{module}.py").write_text(MODELS.replace("{activation}", activation))
    (folder / "my_configs" / "student").mkdir(parents=True, exist_ok=True)
    (folder / "my_configs" / "student" / "mine.yaml").write_text(STUDENT.format(module=module))


MINE = ("--config-dir", "my_configs", "student=mine")


def distill(folder: Path, *words: str) -> Outcome:
    return kd("distill", *MINE, TINY[0], *words, cwd=folder)


@pytest.mark.slow
def test_a_model_of_my_own_is_trained_found_again_and_made_anew_when_its_file_changes(tmp_path: Path) -> None:
    own(tmp_path, "my_models")
    first = distill(tmp_path).result
    assert first["student"]["params"] == 64 * 8 + 8 + 8 * 10 + 10
    assert first["stages"]["student"]["cached"] is False

    again = distill(tmp_path).result
    assert {stage["cached"] for stage in again["stages"].values()} == {True}

    own(tmp_path, "my_models", activation="Tanh")
    changed = distill(tmp_path).result
    found = {name for name, stage in changed["stages"].items() if stage["cached"]}
    assert found == {"teacher", "soft_targets"}, "same config, other source: another student and baseline"
    assert changed["student"]["artifact"] != first["student"]["artifact"]
    identity = json.loads((tmp_path / "outputs" / changed["student"]["artifact"] / "manifest.json").read_text())[
        "identity"
    ]
    assert list(identity["model"]["sources"]) == ["my_models.flat"]


def test_a_model_of_my_own_is_loaded_only_where_i_trust_its_module(tmp_path: Path) -> None:
    own(tmp_path, "own_models")
    student = inside("distill", *MINE, TINY[0], "baseline=false", cwd=tmp_path).result["student"]["artifact"]
    path = f"path=outputs/{student}"
    refused = inside("evaluate", path, cwd=tmp_path)
    assert (refused.status, refused.out) == (1, "")
    assert "own_models.flat" in refused.err
    assert "'trusted_modules=[own_models]'" in refused.err
    allowed = inside("evaluate", path, "trusted_modules=[own_models]", "format=json", cwd=tmp_path)
    assert allowed.status == 0, allowed.err
    assert json.loads(allowed.out)["n"] == 599
    as_teacher = ("teacher=artifact", f"teacher.path=outputs/{student}", TINY[1], "baseline=false")
    assert inside("distill", *as_teacher, cwd=tmp_path).status == 1
    assert inside("distill", *as_teacher, "trusted_modules=[own_models]", cwd=tmp_path).status == 0


def test_my_configs_are_among_the_choices(tmp_path: Path) -> None:
    own(tmp_path, "choice_models")
    done = inside("distill", "--config-dir", "my_configs", "student=mien", cwd=tmp_path)
    assert done.status == 1
    assert "mine" in done.err.partition("must be one of ")[2].partition(", got")[0].split(", ")
    assert done.err.endswith("Did you mean 'mine'?\n")
    assert "mine" in inside("distill", "--config-dir", "my_configs", "--help", cwd=tmp_path).out


def test_an_objective_of_my_own(tmp_path: Path) -> None:
    (tmp_path / "my_objectives.py").write_text(OBJECTIVE)
    (tmp_path / "my_configs" / "objective").mkdir(parents=True)
    (tmp_path / "my_configs" / "objective" / "mse.yaml").write_text(
        "_target_: my_objectives.Mse\nweight: ${soft_weight}\n"
    )
    words = ("--config-dir", "my_configs", "objective=mse", *TINY, "baseline=false")
    result = inside("distill", *words, cwd=tmp_path).result
    history = tmp_path / "outputs" / result["student"]["artifact"] / "history.jsonl"
    record = json.loads(history.read_text().splitlines()[0])
    assert record["loss"] == pytest.approx(0.9 * record["distance"], rel=1e-4)

    (tmp_path / "my_objectives.py").write_text(OBJECTIVE.replace("F.mse_loss", "2 * F.mse_loss"))
    again = inside("distill", *words, cwd=tmp_path).result
    assert [stage["cached"] for stage in again["stages"].values()] == [True, True, False]


def test_a_data_set_of_my_own(tmp_path: Path) -> None:
    (tmp_path / "my_data.py").write_text(DATASET)
    (tmp_path / "my_configs" / "dataset").mkdir(parents=True)
    (tmp_path / "my_configs" / "dataset" / "stripes.yaml").write_text("_target_: my_data.stripes\ncount: 64\n")
    words = ("--config-dir", "my_configs", "dataset=stripes", *TINY, "teacher.train.batch_size=8")
    result = inside("distill", *words, cwd=tmp_path).result
    assert result["dataset"] == "stripes"
    assert result["teacher"]["n"] == 32
    assert list(result["student"]["per_class"]) == ["upright", "lying"]
    other = inside("distill", *words, "dataset.count=80", cwd=tmp_path).result
    assert not any(stage["cached"] for stage in other["stages"].values())
    assert other["environment"]["dataset_fingerprint"] != result["environment"]["dataset_fingerprint"]


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


@pytest.mark.parametrize("recipe", ["wrn_16_2", "cnn_small", "resnet18", "mlp_800"])
def test_a_model_of_my_own_inherits_no_key_of_the_recipes_model(recipe: str, tmp_path: Path) -> None:
    own(tmp_path, f"own_under_{recipe}")
    (tmp_path / "my_configs" / "model").mkdir()
    (tmp_path / "my_configs" / "model" / "flat.yaml").write_text(
        f"_target_: own_under_{recipe}.flat\n_partial_: true\n"
    )
    words = ("--config-dir", "my_configs", f"student={recipe}", "model@student.model=flat", *TINY, "baseline=false")
    done = inside("distill", *words, cwd=tmp_path)
    assert done.status == 0, done.err
    made_for = {"wrn_16_2": "wrn", "cnn_small": "cnn", "resnet18": "torchvision.resnet", "mlp_800": "mlp"}[recipe]
    said = [line for line in done.err.splitlines() if line.startswith("student.model is of the family")]
    assert said == [
        f"student.model is of the family own_under_{recipe}.flat, and trained by the recipe of student={recipe}, "
        f"which was made for {made_for}: its epochs, optimizer and learning rate may not suit"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model@teacher.model=resnet8", "teacher.model.widths=[4,4,8,8]"], "the recipe of teacher=cnn_digits, which"),
        (["model@teacher.model=cnn_small"], None),
        (["model@teacher.model=cnn_small", "teacher.model.widths=[8]"], None),
        (
            ["teacher=ensemble", "teacher.size=1", "teacher.member=cnn_digits", "model@teacher.member.model=mlp_30"],
            "teacher.member.model is of the family mlp, and trained by the recipe of teacher.member=cnn_digits, which",
        ),
    ],
)
def test_a_teacher_of_another_family_than_its_recipe_is_said(
    words: list[str], said: str | None, tmp_path: Path
) -> None:
    key = "teacher.member.train.epochs=1" if "teacher=ensemble" in words else "teacher.train.epochs=1"
    done = inside("train-teacher", *words, key, cwd=tmp_path)
    assert done.status == 0, done.err
    assert ("is of the family" in done.err) == (said is not None)
    assert (said or "") in done.err


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
from kd_cli.data.splits import assemble, whole


class Own:
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    @property
    def shape(self):
        return tuple(self.values.shape[1:])

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


def test_an_augmentation_that_gives_no_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "floating.py").write_text("def half(images, index, seed, view):\n    return images / 510\n")
    (tmp_path / "mine" / "augment").mkdir(parents=True)
    (tmp_path / "mine" / "augment" / "half.yaml").write_text("_target_: floating.half\n_partial_: true\n")
    done = inside("train-teacher", "--config-dir", "mine", "augment@teacher.augment=half", cwd=tmp_path)
    assert done.status == 1
    assert "augment must be one that gives uint8 images [n, channels, height, width], as it was given" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("launcher", ["basic", "population"])
def test_a_sweep_loads_its_data_once(launcher: str, tmp_path: Path) -> None:
    counted = DATASET.replace(
        '"""Images', 'with open("loaded", "a") as log:\n        log.write("once\\n")\n    """Images'
    )
    (tmp_path / "counted_data.py").write_text(counted)
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "counted.yaml").write_text("_target_: counted_data.stripes\ncount: 64\n")
    words = ("--config-dir", "mine", "dataset=counted", f"hydra/launcher={launcher}", "seed=0,1", *TINY)
    done = inside("sweep", *words, "teacher.train.batch_size=8", cwd=tmp_path)
    assert done.status == 0, done.err
    assert (tmp_path / "loaded").read_text() == "once\n"
