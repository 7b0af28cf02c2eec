"""Checkpoints that are damaged, forged or of another training are left aside."""

import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from broken_off import EPOCHS, Stop, adamw, keep, said, same, sgd, train
from running import inside
from safetensors.torch import save_file
from torch import Tensor

from kd_cli.store.history import HISTORY
from kd_cli.train import checkpoint as module
from kd_cli.train import fit as engine
from kd_cli.train import loop
from kd_cli.train.checkpoint import FILE, _read


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize("damage", [cut, flip, empty, foreign])
def test_a_damaged_checkpoint_is_left_aside(tmp_path, few, caplog, damage):
    caplog.set_level(logging.INFO)
    undisturbed = train(tmp_path / "undisturbed", few)
    with pytest.raises(Stop):
        train(tmp_path / "broken", few, stop=3)
    damage(tmp_path / "broken" / FILE)
    assert same(train(tmp_path / "broken", few), undisturbed)
    (line,) = said(caplog)
    assert re.fullmatch(r"student: its checkpoint is damaged \(.+\): starting anew", line)
    assert len((tmp_path / "broken" / HISTORY).read_text().splitlines()) == EPOCHS


def forge(path: Path, change: Callable[[dict[str, Tensor], dict[str, object]], object]) -> None:
    """Changes what a checkpoint holds, and makes its digest agree, as anybody can."""
    tensors, plain = _read(path)
    change(tensors, plain)
    text = json.dumps(plain)
    save_file(tensors, path, {"plain": text, "sha256": module._digest(tensors, text)})


def plainly(**changes: object) -> Callable[[dict[str, Tensor], dict[str, object]], object]:
    return lambda tensors, plain: plain.update(changes)


def without(key: str) -> Callable[[dict[str, Tensor], dict[str, object]], object]:
    return lambda tensors, plain: plain.pop(key)


def among(kind: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor], dict[str, object]], object]:
    def forged(tensors: dict[str, Tensor], plain: dict[str, object]) -> None:
        name = next(name for name in tensors if name.startswith(kind) and tensors[name].ndim)
        tensors[name] = change(tensors[name]).contiguous()

    return forged


FORGED = {
    "an epoch without an end": plainly(epoch=10**9),
    "an epoch before the first": plainly(epoch=-1),
    "an epoch too many": plainly(epoch=EPOCHS + 1),
    "half an epoch": plainly(epoch=2.5),
    "an epoch in words": plainly(epoch="2"),
    "a true epoch": plainly(epoch=True),
    "a step without an end": plainly(step=10**6),
    "a step past the last epoch": plainly(epoch=EPOCHS, step=1),
    "a step without figures": lambda tensors, plain: (
        plain.update(step=2),
        plain["meter"].update(seen=0, right=0, labelled=0),
    ),
    "no step": without("step"),
    "no meter": without("meter"),
    "a meter in words": plainly(meter="x"),
    "a meter that has counted nothing": lambda tensors, plain: plain["meter"].update(right=5, seen=2),
    "a meter that has no loss": lambda tensors, plain: plain["meter"].update(sums={}),
    "no slots": without("slots"),
    "a slot of no weight": plainly(slots={"99/step": 1}),
    "a slot in words": plainly(slots={"x": 1}),
    "a nested slot": plainly(slots={"0/momentum_buffer": [1]}),
    "no groups": plainly(groups=[]),
    "other groups": plainly(groups=[{"lr": 0.1}]),
    "a rate in words": lambda tensors, plain: plain["groups"][0].update(lr="fast"),
    "a rate without an end": lambda tensors, plain: plain["groups"][0].update(lr=math.inf),
    "another scale": plainly(scaler={"scale": 1.0}),
    "no history": plainly(history=None),
    "a history of other epochs": plainly(history='{"epoch": 1}\n'),
    "a history in words": plainly(history="once upon a time"),
    "an environment in words": plainly(environment="here"),
    "fewest in words": plainly(fewest="few"),
    "weights of another shape": among("model/", lambda value: value[None]),
    "weights of another type": among("model/", lambda value: value.double()),
    "a weight too many": lambda tensors, plain: tensors.update({"model/more": torch.zeros(1)}),
    "a weight too few": lambda tensors, plain: tensors.pop(min(tensors)),
    "a best of another shape": lambda tensors, plain: tensors.update({"best/2.weight": torch.zeros(1)}),
    "momentum of another shape": among("optimizer/", lambda value: value[:1]),
    "momentum of another type": among("optimizer/", lambda value: value.half()),
    "momentum of another name": lambda tensors, plain: tensors.update({"optimizer/0/more": torch.zeros(1)}),
    "gigabytes": lambda tensors, plain: tensors.update({"optimizer/0/more": torch.zeros(1 << 27)}),
}


@pytest.mark.parametrize("build", [sgd, adamw], ids=["SGD", "AdamW"])
@pytest.mark.parametrize("name", FORGED)
def test_a_forged_checkpoint_is_left_aside_whatever_it_says(tmp_path, few, caplog, name, build) -> None:
    """And nothing of it is taken: the training ends in the bits of one that began anew."""
    caplog.set_level(logging.INFO)
    undisturbed = train(tmp_path / "undisturbed", few, optimizer=build)
    with pytest.raises(Stop):
        train(tmp_path / "broken", few, stop=3, optimizer=build)
    forge(tmp_path / "broken" / FILE, FORGED[name])
    caplog.clear()
    assert same(train(tmp_path / "broken", few, optimizer=build), undisturbed)
    (line,) = said(caplog)
    assert re.fullmatch(r"student: its checkpoint is damaged \(.+\): starting anew", line), line


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.mkdir(),
        lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 1 << 40),
    ],
    ids=["a pipe", "a link to a device", "a dangling link", "a folder", "a terabyte of nothing"],
)
@pytest.mark.parametrize("name", [FILE, HISTORY])
def test_what_is_no_file_in_the_place_of_one_is_not_waited_for(tmp_path: Path, name: str, make) -> None:
    words = ("train-teacher", "teacher.train.epochs=1", "device=cpu")
    made = inside(*words, cwd=tmp_path).result["stages"]["teacher"]["artifact"]
    folder = tmp_path / "outputs" / made
    folder.rename(tmp_path / "whole")
    unfinished = folder.with_name(f".{folder.name}.partial")
    unfinished.mkdir()
    (unfinished / "checkpoint.other").write_text("so that it is taken for one that can be continued")
    make(unfinished / name)
    inside(*words, cwd=tmp_path).result  # noqa: B018  # it is asserted that it completes
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


def test_a_checkpoint_of_another_seed_is_not_gone_on_from(tmp_path: Path) -> None:
    words = ("train-teacher", "teacher.train.epochs=3", "checkpoint.every_epochs=1", "device=cpu")
    folders = {}
    for seed in (0, 1):
        made = inside(*words, f"teacher.seed={seed}", cwd=tmp_path).result["stages"]["teacher"]
        folders[seed] = tmp_path / "outputs" / made["artifact"]
    expected = (folders[1] / "model.safetensors").read_bytes()
    for seed in (0, 1):
        folders[seed].rename(tmp_path / str(seed))
    partial = {seed: folders[seed].with_name(f".{folders[seed].name}.partial") for seed in (0, 1)}

    def stop(record: object) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "kd_cli.train.watch.History.epoch", lambda self, record: stop(record) if record["epoch"] == 3 else 0
        )
        assert inside(*words, "teacher.seed=0", cwd=tmp_path).status == 1
    shutil.copytree(partial[0], partial[1])
    done = inside(*words, "teacher.seed=1", cwd=tmp_path)
    assert "its checkpoint was made with another config or data: starting anew" in done.err
    assert (folders[1] / "model.safetensors").read_bytes() == expected


def test_other_threads_precision_or_versions_begin_anew(tmp_path, few, caplog):
    caplog.set_level(logging.INFO)

    def broken(folder: Path) -> Path:
        with pytest.raises(Stop):
            train(folder, few, stop=3, checkpoint=keep(folder, torch="2.6.0"), precision="bf16-mixed")
        return folder

    undisturbed = train(tmp_path / "undisturbed", few, checkpoint=keep(tmp_path / "undisturbed", torch="2.7.0"))
    again = broken(tmp_path / "broken")
    assert same(train(again, few, checkpoint=keep(again, torch="2.7.0")), undisturbed)
    line = said(caplog)[-1]
    assert line.startswith("student: its checkpoint was made with torch 2.6.0, now 2.7.0")
    assert line.endswith(": starting anew")

    with pytest.raises(Stop):
        train(tmp_path / "threads", few, stop=3)
    caplog.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.torch, "get_num_threads", lambda: 7)
        train(tmp_path / "threads", few)
    assert "threads 1, now 7: starting anew" in caplog.text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"environment": {"device_name": "AMD EPYC 7B13"}}, "device_name x86_64, now AMD EPYC 7B13"),
        ({"environment": {"instructions": "AVX2"}}, "instructions AVX512, now AVX2"),
        ({"compile": True}, "compile False, now True"),
        ({"kernels": "oneDNN"}, "kernels BLAS, now oneDNN"),
        ({"memory_format": "channels_last"}, "memory_format contiguous, now channels_last"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_another_processor_or_other_kernels_begin_anew(tmp_path, few, caplog, monkeypatch, change, told):
    caplog.set_level(logging.INFO)
    made = {"device_name": "x86_64", "instructions": "AVX512"}
    with pytest.raises(Stop):
        train(tmp_path, few, stop=3, checkpoint=keep(tmp_path, **made))
    with monkeypatch.context() as patch:
        if "kernels" in change:
            patch.setattr(loop, "float32_kernels", lambda device, flops: nullcontext(change["kernels"]))
        if "compile" in change:
            patch.setattr(engine, "compiled", lambda model, memory_format: model)
        recipe = {"memory_format": change["memory_format"]} if "memory_format" in change else {}
        now = keep(tmp_path, **made | change.get("environment", {}))
        train(tmp_path, few, checkpoint=now, compile="compile" in change, **recipe)
    assert said(caplog)[-1] == f"student: its checkpoint was made with {told}: starting anew"
