"""Networks of transformers and timm, out of folders that those libraries wrote."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_models import NAMES, ORDER, resnet, vit
from running import inside

from kd_cli.data.spec import image_spec
from kd_cli.models.hf import hf
from kd_cli.models.timm import timm
from kd_cli.store.models import load

SHORT = ("student.train.epochs=1", "baseline=false", "evaluate.latency=false")
SPEC = image_spec((3, 16, 16))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    vit(folder / "vit")
    resnet(folder / "res")
    return folder


def images(size: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)


def refused(*words: str, cwd: Path) -> str:
    done = inside("train-teacher", *words, cwd=cwd)
    assert done.status == 1
    assert "Traceback" not in done.err
    assert not (cwd / "outputs" / "runs").exists()
    return done.err


@pytest.mark.parametrize("size", [16, 40])
def test_an_image_model_of_transformers_sees_what_its_processor_would_show_it(size: int, tmp_path: Path) -> None:
    model, processor = vit(tmp_path / "vit")
    ours = hf(None, SPEC, str(tmp_path / "vit")).eval()
    pixels = images(size)
    with torch.inference_mode():
        shown = processor([Image.fromarray(image) for image in pixels], return_tensors="pt")["pixel_values"]
        theirs = model(shown).logits
        said = ours(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(said, theirs, rtol=0, atol=1e-4 if size == 16 else 0.05)


def test_a_network_of_timm_sees_what_its_own_transform_would_show_it(tmp_path: Path) -> None:
    import timm as library

    model = resnet(tmp_path / "res")
    ours = timm(None, SPEC, str(tmp_path / "res")).eval()
    how = {**library.data.resolve_data_config({}, model=model), "crop_pct": 1.0}
    transform = library.data.create_transform(**how, is_training=False)
    pixels = images(64)
    with torch.inference_mode():
        theirs = model(torch.stack([transform(Image.fromarray(image)) for image in pixels]))
        said = ours(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    assert ours.size == (160, 160)
    torch.testing.assert_close(said, theirs, rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", ["hf", "timm"])
def test_classes_are_found_by_the_names_that_a_model_was_published_with(kind: str, home: Path, tmp_path: Path) -> None:
    folder, network = (home / "vit", hf) if kind == "hf" else (home / "res", timm)
    named = "{" + ", ".join(f"{k}: digit_{k}" for k in range(10)) + "}"
    words = [f"teacher={kind}", f"teacher.name={folder}", *([f"teacher.classes={named}"] if kind == "timm" else [])]
    words += ["dataset.size=24"] if kind == "hf" else ["teacher.model.size=16"]
    result = inside("distill", *words, *SHORT, "device=cpu", cwd=tmp_path).result
    teacher = result["teacher"]
    assert teacher["artifact"].startswith("teachers/")
    from kd_cli.datasets.digits import digits

    data = digits(size=24 if kind == "hf" else 8)
    more = {} if kind == "hf" else {"size": 16}
    model = network(None, data.spec, str(folder), **more).eval()
    shown = data.spec.to_network(next(data.test.samples.stream([torch.arange(599)], torch.device("cpu"))))
    with torch.inference_mode():
        said = torch.tensor(ORDER)[model(shown).argmax(1)]
    assert teacher["errors"] == int((said != data.test.labels).sum())
    assert teacher["params"] == sum(p.numel() for p in model.parameters())


def test_what_moved_is_found_again_and_what_changed_is_not(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "vit", tmp_path / "one")
    words = ("distill", "teacher=mlp_8", "teacher.train.epochs=1", "student=hf", *SHORT, "dataset.size=16")
    first = inside(*words, "student.model.name=one", "student.model.config={num_hidden_layers: 2}", cwd=tmp_path).result
    (tmp_path / "one").rename(tmp_path / "two")
    again = inside(*words, "student.model.name=two", "student.model.config={num_hidden_layers: 2}", cwd=tmp_path).result
    assert again["stages"]["student"]["cached"] is True
    about = json.loads((tmp_path / "two" / "config.json").read_text())
    (tmp_path / "two" / "config.json").write_text(json.dumps({**about, "hidden_act": "relu"}))
    other = inside(*words, "student.model.name=two", "student.model.config={num_hidden_layers: 2}", cwd=tmp_path).result
    assert other["student"]["artifact"] != first["student"]["artifact"]
    (tmp_path / "two" / "model.safetensors").write_bytes(
        (tmp_path / "two" / "model.safetensors").read_bytes()[:-4] + bytes(4)
    )
    changed = inside(*words, "student.model.name=two", cwd=tmp_path).result
    shutil.rmtree(tmp_path / "two")  # what is stored stands alone
    loaded = load(tmp_path / "outputs" / first["student"]["artifact"])
    assert (
        len(
            loaded.model.network.vit.encoder.layer
            if hasattr(loaded.model.network.vit, "encoder")
            else loaded.model.network.vit.layers
        )
        == 2
    )
    assert changed["student"]["artifact"] not in (first["student"]["artifact"], other["student"]["artifact"])


def test_a_student_from_scratch_and_one_from_published_weights(home: Path, tmp_path: Path) -> None:
    spec = image_spec((1, 8, 8))
    torch.manual_seed(0)
    scratch, begun = timm(5, spec, str(home / "res"), weights=False), timm(5, spec, str(home / "res"))
    published = resnet(tmp_path / "res").state_dict()
    ours = begun.network.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in published.items() if not key.startswith("fc"))
    assert begun(torch.rand(2, 1, 8, 8)).shape == (2, 5)
    assert not torch.equal(scratch.network.conv1[0].weight, begun.network.conv1[0].weight)


def test_a_published_teacher_is_a_member_of_an_ensemble(home: Path, tmp_path: Path) -> None:
    words = ["teacher=ensemble", "teacher.members=[hf,mlp_8]", f"teacher.members.0.name={home / 'vit'}"]
    words += ["teacher.members.1.train.epochs=1"]
    result = inside("distill", *words, *SHORT, cwd=tmp_path).result
    name = result["teacher"]["members"][0]["artifact"]
    stored = load(tmp_path / "outputs" / name)  # it stands without its folder
    assert stored.classes == tuple(str(k) for k in range(10))
    images = torch.rand(3, 1, 8, 8)
    theirs = hf(None, image_spec((1, 8, 8)), str(home / "vit")).eval()(images)
    torch.testing.assert_close(stored.model(images), theirs[:, [ORDER.index(k) for k in range(10)]])


def test_refusals_say_what_to_do(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = refused("teacher=hf", cwd=tmp_path)
    assert "teacher.name must be a folder with config.json, or the name of a model on the Hugging Face hub" in said
    said = refused("teacher=hf", "teacher.name=./no such/folder", cwd=tmp_path)
    assert "teacher.name must be a folder with config.json and model.safetensors, got './no such/folder'" in said
    said = refused("teacher=timm", "teacher.name=resnet_18", cwd=tmp_path)
    assert "Did you mean 'resnet18'?" in said
    said = refused("teacher=hf", f"teacher.name={home / 'vit'}", "dataset=confusable", cwd=tmp_path)
    assert "teacher.classes must be such that every class of dataset=confusable is among the teacher's" in said
    (tmp_path / "bare").mkdir()
    said = refused("teacher=hf", "teacher.name=bare", cwd=tmp_path)
    assert "teacher.name must be a folder that holds config.json, got 'bare' without it." in said
    shutil.copy(home / "vit" / "config.json", tmp_path / "bare")
    (tmp_path / "bare" / "pytorch_model.bin").write_bytes(b"x")
    said = refused("teacher=hf", "teacher.name=bare", cwd=tmp_path)
    assert "with pytorch_model.bin. A pickle can run code and is not read." in said
    shutil.copy(home / "vit" / "model.safetensors", tmp_path / "bare")
    said = refused("teacher=hf", "teacher.name=bare", cwd=tmp_path)
    assert "teacher.name must be a folder that holds preprocessor_config.json" in said
    said = refused("teacher=hf", "teacher.name=somebody/some-model", cwd=tmp_path)
    assert "hf download somebody/some-model --local-dir some-model" in said
    assert NAMES[0] == "3"


def test_code_in_a_models_folder_is_not_run(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "vit", tmp_path / "evil")
    about = json.loads((tmp_path / "evil" / "config.json").read_text())
    about["auto_map"] = {"AutoConfig": "mine.Config", "AutoModelForImageClassification": "mine.Model"}
    (tmp_path / "evil" / "config.json").write_text(json.dumps(about))
    (tmp_path / "evil" / "mine.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    done = inside("train-teacher", "teacher=hf", "teacher.name=evil", "dataset.size=16", cwd=tmp_path)
    assert done.status == 0
    assert not (tmp_path / "ran").exists()
