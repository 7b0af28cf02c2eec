"""Teachers whose answers cannot be trusted are named for what they are, before anything is made of them."""

from pathlib import Path

import pytest
import torch
from running import Outcome, files_below, inside
from safetensors.torch import save_file
from torch import Tensor, nn

from kd_cli.errors import ArtifactError, ConfigError
from kd_cli.teachers.sound import check_numbers, check_range, check_teacher

CPU = torch.device("cpu")
MODELS = """
import torch
from torch import nn


class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.linear = kind, nn.Linear(64, 10)

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        if self.kind == "draws" and not self.training:
            return nn.functional.dropout(logits, 0.5)
        if self.kind == "batch":
            return 10 * (logits - logits.mean(0)) / logits.std(0)
        if self.kind == "rarely":
            logits = logits.masked_fill((images.mean((1, 2, 3)) > 0.4)[:, None], torch.nan)
        if self.kind == "impossible":
            logits = logits.masked_fill(torch.arange(10) == 3, -torch.inf)
        return logits * {"huge": 1e6, "overflows": 1e38}.get(self.kind, 1)


def odd(num_classes, input_shape, kind="well"):
    return Odd(kind)
"""
SAID = {
    "nan": "must give finite logits, got NaN or infinity for 32 of 32 images: not all numbers of linear.weight are ",
    "overflows": "must give finite logits, got NaN or infinity",
    "draws": "must answer alike when it is asked twice",
    "batch": "must answer about each image by itself",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "odd_models.py").write_text(MODELS)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "teacher").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "odd.yaml").write_text("_target_: odd_models.odd\n_partial_: true\nkind: well\n")
    (tmp_path / "mine" / "teacher" / "mine.yaml").write_text(
        "defaults:\n  - /model@model: odd\n  - _self_\n_target_: kd_cli.teachers.checkpoint.Pretrained\n"
        "path: well.safetensors\nonline: false\n"
    )
    torch.manual_seed(0)
    weights = {"linear.weight": torch.randn(10, 64), "linear.bias": torch.zeros(10)}
    save_file(weights, tmp_path / "well.safetensors")
    weights["linear.weight"][0, 0] = torch.nan
    save_file(weights, tmp_path / "nan.safetensors")
    return tmp_path


def odd(kind: str, key: str = "teacher") -> list[str]:
    return [f"{key}.path=nan.safetensors"] if kind == "nan" else [f"{key}.model.kind={kind}"]


def distill(folder: Path, *words: str, command: str = "distill") -> Outcome:
    return inside(command, "--config-dir", "mine", *words, cwd=folder)


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("kind", SAID)
def test_such_a_teacher_is_named_and_nothing_is_stored(folder: Path, kind: str, online: bool) -> None:
    done = distill(folder, "teacher=mine", *odd(kind), f"teacher.online={str(online).lower()}")
    assert done.status == 1
    assert done.err.startswith(f"teacher {SAID[kind]}"), done.err
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("kind", SAID)
def test_a_member_of_an_ensemble_is_named_by_its_key(folder: Path, kind: str) -> None:
    words = ("teacher=ensemble", "+teacher@teacher.members.good=mine", "+teacher@teacher.members.bad=mine")
    done = distill(folder, *words, *odd(kind, "teacher.members.bad"))
    assert done.status == 1
    assert done.err.startswith(f"teacher.members.bad {SAID[kind]}"), done.err
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("command", ["train-teacher", "dump-targets"])
def test_the_other_commands_name_it_too(folder: Path, command: str) -> None:
    done = distill(folder, "teacher=mine", *odd("nan"), command=command)
    assert (done.status, done.err.startswith(f"teacher {SAID['nan']}")) == (1, True), done.err


def test_a_teacher_that_kd_trains_is_looked_at_before_its_training(folder: Path) -> None:
    words = ("model@teacher.model=odd", "teacher.model.kind=draws")
    done = distill(folder, *words)
    assert done.err.startswith(f"teacher {SAID['draws']}"), done.err
    assert not (folder / "outputs").exists()


def test_logits_beyond_float16_want_float32(folder: Path) -> None:
    done = distill(folder, "teacher=mine", *odd("huge"), "student.train.epochs=1")
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith("targets.dtype must be float32 for the logits of this teacher")
    assert "float16 holds 6.55e+04" in done.err
    assert not [name for name in files_below(folder / "outputs") if name.startswith(("soft_targets/", "students/"))]
    words = ("targets.dtype=float32", "student.train.epochs=1", "baseline=false")
    assert distill(folder, "teacher=mine", *odd("huge"), *words).status == 0
    assert distill(folder, "teacher=mine", *odd("huge"), "targets.top_k=3", "baseline=false").status == 1


@pytest.mark.parametrize("online", ["true", "false"])
def test_a_class_that_cannot_be_is_no_fault(folder: Path, online: str) -> None:
    words = (f"teacher.online={online}", "student.train.epochs=1", "baseline=false")
    done = distill(folder, "teacher=mine", *odd("impossible"), *words)
    assert done.status == 0, done.err


@pytest.mark.parametrize("online", ["true", "false"])
def test_an_image_that_the_first_ones_did_not_foretell_stops_the_run(folder: Path, online: str) -> None:
    done = distill(folder, "teacher=mine", *odd("rarely"), f"teacher.online={online}", "student.train.epochs=1")
    assert done.status == 1
    assert "The teacher must give finite logits, got NaN or infinity for" in done.err
    assert "learning rate 0" not in done.err, "it is not the student's training that is to blame"
    unfinished = [name for name in files_below(folder / "outputs") if name.startswith(("soft_targets/", "students/"))]
    assert not [name for name in unfinished if "/." not in name], "nothing is finished"


def test_a_stored_teacher_is_a_stage_that_was_there_already(folder: Path) -> None:
    words = ("student.train.epochs=1", "baseline=false", "hard_weight=1", "soft_weight=0")
    first, again = (distill(folder, "teacher=mine", *words).result for _ in range(2))
    assert again["stages"]["teacher"]["cached"] is True
    assert (
        again["stages"]["teacher"]["artifact"] == first["stages"]["teacher"]["artifact"] == again["teacher"]["artifact"]
    )
    assert first["teacher"]["artifact"].startswith("teachers/")
    path = f"teacher.path=outputs/{first['student']['artifact']}"
    second = distill(folder, "teacher=artifact", path, "student.model.widths=[8]", *words).result
    assert second["stages"]["teacher"]["cached"] is True
    assert second["stages"]["teacher"]["artifact"] == second["teacher"]["artifact"] == first["student"]["artifact"]


# --- the checks alone


def test_what_is_well_passes(few, small_net) -> None:
    check_teacher(small_net(), few, CPU, "teacher")
    check_teacher(small_net(), few.select(torch.arange(1)), CPU, "teacher")


class Answers(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_the_weights_are_not_to_blame_for_is_said(few, value) -> None:
    with pytest.raises(ArtifactError, match="its weights are finite, what it makes of them is not"):
        check_teacher(Answers(torch.tensor([0.0, value])), few, CPU, "teacher")


def test_buffers_are_looked_at_as_well() -> None:
    norm = nn.BatchNorm1d(3)
    norm.running_var.fill_(torch.inf)
    with pytest.raises(ArtifactError, match="not all numbers of running_var are finite"):
        check_numbers(torch.full((2, 3), torch.nan), norm, "teacher", "samples")


@pytest.mark.parametrize(("spread", "well"), [(65_000.0, True), (66_000.0, False), (torch.inf, True)])
def test_the_range_is_that_of_the_type(spread: float, well: bool) -> None:
    logits = torch.tensor([[spread if spread != torch.inf else 0.0, 0.0 if spread != torch.inf else -spread]])
    check_range(logits, torch.float32)
    if well:
        check_range(logits, torch.float16)
        return
    with pytest.raises(ConfigError, match=r"^targets\.dtype must be float32"):
        check_range(logits, torch.float16)
