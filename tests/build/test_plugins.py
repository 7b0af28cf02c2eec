"""A person's own model, objective and data set: one Python file and one YAML in a folder of their own."""

import json
from pathlib import Path

import pytest
from own_parts import MINE, own
from running import TINY, Outcome, inside, kd

OBJECTIVE = '''
from torch.nn import functional as F


class Mse:
    """Squared distance of the logits."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, answer, batch):
        distance = F.mse_loss(answer.logits, batch.teacher.logits)
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
