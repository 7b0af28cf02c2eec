"""Reading models back: `kd_cli.load`."""

import shutil
from pathlib import Path

import pytest
import torch
from rewritten import edit, rewrite
from running import Outcome
from safetensors.torch import load, load_file, save_file

import kd_cli
from kd_cli.datasets.digits import digits
from kd_cli.errors import ArtifactError
from kd_cli.measure.prediction import predict
from kd_cli.store.tensor_header import LARGEST, header_of

CPU = torch.device("cpu")


def test_a_loaded_model_says_what_it_is(made: Outcome, outputs: Path) -> None:
    for role in ("teacher", "student", "baseline"):
        loaded = kd_cli.load(outputs / made.result[role]["artifact"])
        assert not any(module.training for module in loaded.model.modules())
        assert loaded.classes == tuple(str(k) for k in range(10))
        assert loaded.input_shape == (1, 8, 8)
        assert sum(p.numel() for p in loaded.model.parameters()) == made.result[role]["params"]
        logits = predict(loaded.model, digits().test, CPU)
        assert int((logits.argmax(1) != digits().test.labels).sum()) == made.result[role]["errors"]


def test_it_does_not_depend_on_the_current_folder_and_takes_a_string(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder,) = (outputs / "teachers").iterdir()
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(kd_cli.load(str(folder)).model(images), kd_cli.load(folder).model(images))


def test_a_run_folder_gives_the_student_also_after_all_was_moved(made: Outcome, outputs: Path, tmp_path: Path) -> None:
    assert kd_cli.load(made.run).folder == outputs / made.result["student"]["artifact"]
    shutil.copytree(outputs, tmp_path / "moved")
    assert kd_cli.load(tmp_path / "moved" / "runs" / made.run.name).folder.is_relative_to(tmp_path / "moved")


def test_a_run_whose_student_is_gone(made: Outcome, outputs: Path, tmp_path: Path) -> None:
    shutil.copytree(made.run, tmp_path / "runs" / "one")
    with pytest.raises(ArtifactError, match=r"names students/[0-9a-f]{16}, which is not there any more\.$"):
        kd_cli.load(tmp_path / "runs" / "one")


def test_a_failed_run_names_no_model(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"format": 1, "status": "failed"}')
    with pytest.raises(ArtifactError, match=r"whose result\.json names no model"):
        kd_cli.load(tmp_path)


def test_an_edit_that_the_manifest_does_not_know_is_damage(student: Path) -> None:
    path = student / "config.yaml"
    path.write_text(path.read_text().replace("- 64", "- 32"))
    with pytest.raises(ArtifactError, match=r"config\.yaml is damaged: it differs from its manifest"):
        kd_cli.load(student)


def test_weights_that_do_not_fit_the_config(student: Path) -> None:
    edit(student, lambda config: config["model"].update(widths=[32, 16]))
    with pytest.raises(ArtifactError, match="holds weights that do not fit its config"):
        kd_cli.load(student)


def test_weights_with_a_tensor_missing(student: Path, tmp_path: Path) -> None:
    weights = load_file(student / "model.safetensors")
    weights.popitem()
    save_file(weights, tmp_path / "less.safetensors")
    rewrite(student, "model.safetensors", (tmp_path / "less.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match="holds weights that do not fit its config"):
        kd_cli.load(student)


def test_weights_of_another_type_or_shape_are_named(student: Path, tmp_path: Path) -> None:
    whole = load((student / "model.safetensors").read_bytes())
    name = next(name for name in whole if whole[name].shape[0] == 10 and whole[name].ndim == 2)
    for other in (whole[name].half(), whole[name].T.contiguous()):
        save_file({**whole, name: other}, tmp_path / "other.safetensors")
        rewrite(student, "model.safetensors", (tmp_path / "other.safetensors").read_bytes())
        with pytest.raises(ArtifactError, match=rf"fit its config: {name} is \({other.dtype}, .* instead of"):
            kd_cli.load(student)


def test_a_header_that_would_take_much_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    path.write_bytes((LARGEST + 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(ArtifactError, match="its header is too large"):
        header_of(path)


def test_a_manifest_cannot_point_out_of_its_folder(student: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x")
    rewrite(student, "../other", b"x")
    with pytest.raises(ArtifactError, match="is not a plain file of its folder"):
        kd_cli.load(student)
