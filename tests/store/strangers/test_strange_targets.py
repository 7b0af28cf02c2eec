"""Soft targets of a stranger, and teachers under a known name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import forget, headers, put, refused
from running import TINY, Outcome, inside, seal
from safetensors.torch import load_file, save, save_file

from kd_cli.store.artifacts import REBUILD, open_artifact
from kd_cli.targets.soft_targets import SoftTargets

CPU = torch.device("cpu")


@pytest.fixture
def targets(made: Outcome, outputs: Path) -> Path:
    return outputs / made.result["stages"]["soft_targets"]["artifact"]


# Soft targets.


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("file", ["logits-00000.safetensors", "samples.safetensors"])
@pytest.mark.parametrize("name", headers("a"))
def test_targets_with_a_false_header_are_not_mapped(name: str, file: str, targets: Path) -> None:
    put(targets, file, headers("logits" if file.startswith("logits") else "index")[name])
    assert file in refused(lambda: SoftTargets(open_artifact(targets), CPU))


LOGITS: dict[str, Callable[[dict[str, torch.Tensor]], None]] = {
    "no logits": lambda rows: rows.pop("logits"),
    "no classes": lambda rows: rows.pop("classes"),
    "one too many": lambda rows: rows.update(more=torch.zeros(1)),
    "whole logits": lambda rows: rows.update(logits=rows["logits"].int()),
    "classes of another type": lambda rows: rows.update(classes=rows["classes"].float()),
    "classes that there are not": lambda rows: rows["classes"].fill_(10),
    "negative classes": lambda rows: rows["classes"].fill_(-1),
    "fewer rows": lambda rows: rows.update({name: value[:-1] for name, value in rows.items()}),
    "fewer rows of one": lambda rows: rows.update(rest=rows["rest"][:-1].clone()),
    "flat": lambda rows: rows.update(logits=rows["logits"].flatten()),
    "no columns": lambda rows: rows.update(
        logits=rows["logits"][:, :0].clone(), classes=rows["classes"][:, :0].clone()
    ),
    "a scalar": lambda rows: rows.update(logits=torch.tensor(1.0)),
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", LOGITS)
def test_targets_of_another_form_are_not_read(name: str, targets: Path) -> None:
    rows = load_file(targets / "logits-00000.safetensors")
    LOGITS[name](rows)
    put(targets, "logits-00000.safetensors", save({key: value.contiguous() for key, value in rows.items()}))
    refused(lambda: SoftTargets(open_artifact(targets), CPU))


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    "stated",
    [{"classes": "10"}, {"classes": None}, {"temperatures": 4}, {"temperatures": ["4"]}, {"temperatures": [{}]}],
)
def test_a_manifest_of_targets_that_states_nonsense(stated: dict[str, Any], targets: Path) -> None:
    seal(targets, {**json.loads((targets / "manifest.json").read_text()), **stated})
    refused(lambda: SoftTargets(open_artifact(targets), CPU, 4.0))


# The commands.


def test_targets_with_fewer_views_than_asked_for_are_not_used(tmp_path: Path) -> None:
    words = ("distill", *TINY, "baseline=false", "augment@transfer.augment=jitter", "transfer.views=2")
    folder = Path(inside(*words, cwd=tmp_path).run.parents[1], "soft_targets")
    (targets,) = folder.iterdir()
    forget("logits-00001.safetensors")(targets)
    done = inside(*words, "seed=1", cwd=tmp_path)
    assert (done.status, done.out, "Traceback" in done.err) == (1, "", False)
    assert done.err.splitlines()[-1] == f"{targets} holds 1 views instead of 2. {REBUILD}"


def test_a_teacher_in_the_store_with_other_weights_is_not_used(made: Outcome, outputs: Path, tmp_path: Path) -> None:
    teacher = outputs / made.result["teacher"]["artifact"]
    save_file({"weight": torch.zeros(1)}, teacher / "model.safetensors")
    put(teacher, "model.safetensors", (teacher / "model.safetensors").read_bytes())
    done = inside("distill", *TINY, cwd=tmp_path)
    assert (done.status, done.out, "Traceback" in done.err) == (1, "", False)
    assert done.err.splitlines()[-1].startswith(f"{teacher} holds weights that do not fit its config")
