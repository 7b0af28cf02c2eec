import json
import logging
import math
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from running import KD, Outcome, environment, inside
from safetensors.torch import save_file
from torch import Tensor, nn
from watching import Seen

from kd_cli.data.augment import Shift
from kd_cli.data.samples import Split
from kd_cli.models.mlp import mlp
from kd_cli.models.resnet import resnet
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.store.history import HISTORY
from kd_cli.train import checkpoint as module
from kd_cli.train import fit as engine
from kd_cli.train import loop
from kd_cli.train.batches import Batches
from kd_cli.train.checkpoint import FILE, Checkpoint, State, _read
from kd_cli.train.fit import fit
from kd_cli.train.meter import Meter
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import cosine, one_cycle

CPU = torch.device("cpu")
EPOCHS = 6
LAST_STEP = 4  # of an epoch of `few` in batches of 32
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop(Exception):
    """The plug is pulled."""


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)


def plain_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, amsgrad=True)


class Fading(torch.optim.Optimizer):
    """What it has come to is a number of its group, of which no schedule knows."""

    def __init__(self, parameters):  # type: ignore[no-untyped-def]
        super().__init__(parameters, {"lr": 0.1, "strength": 1.0})

    def step(self, closure=None):  # type: ignore[no-untyped-def]
        for group in self.param_groups:
            group["strength"] *= 0.9
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"] * group["strength"])


def small() -> nn.Module:
    return mlp(10, (1, 8, 8), widths=[24], dropout=0.5)


def convolutional() -> nn.Module:
    return resnet(10, (1, 8, 8), depth=8, widths=[8, 8, 8, 8])  # channels last


class Tied(nn.Module):
    """One matrix in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.second(self.first(images.flatten(1)).relu()).relu())


def keep(folder: Path, every_epochs: int | None = 1, **environment: object) -> Checkpoint:
    return Checkpoint(folder, "student", EPOCHS, every_epochs, None, {"device": "cpu", **environment})


def train(
    folder: Path,
    images: Split,
    validation: Split | None = None,
    build: Callable[[], nn.Module] = small,
    stop: int | None = None,
    checkpoint: Checkpoint | None = None,
    strike: tuple[int, int, int] | None = None,
    compile: bool = False,
    **recipe: object,
) -> nn.Module:
    """Trains in `folder` as a stage does; with `stop` it breaks off in the epoch after so many, amid its steps; with
    `strike` a signal comes in this step of this epoch.
    """
    torch.manual_seed(0)
    model = build()
    rule = Recipe(**{"epochs": EPOCHS, "batch_size": 32, "optimizer": sgd, "scheduler": cosine} | recipe)

    def on_epoch(record: dict[str, float]) -> None:
        del record["images_per_second"]
        history.write(json.dumps(record) + "\n")

    def on_step(epoch: int, step: int) -> None:
        if (epoch, step) == (stop, 2):
            raise Stop
        if strike and (epoch, step) == strike[:2]:
            os.kill(os.getpid(), strike[2])

    folder.mkdir(exist_ok=True)
    checkpoint = checkpoint or keep(folder)
    with (folder / HISTORY).open("a", buffering=1) as history:
        fit(
            model,
            Batches(images, 32, 5, CPU, Shift(1), 3),
            CrossEntropy(),
            rule,
            validation,
            compile,
            checkpoint=checkpoint,
            watch=Seen(on_step, on_epoch),
        )
    return model


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the checkpoint."""
    return [record.getMessage() for record in caplog.records if record.name == "kd" and record.module == "checkpoint"]


def same(left: nn.Module, right: nn.Module) -> bool:
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("build", "recipe"),
    [
        (small, {}),
        (small, {"optimizer": plain_sgd, "max_norm": 0.4, "clip": 1.0}),
        (small, {"optimizer": adamw, "scheduler": one_cycle}),
        (small, {"scheduler": lambda *a: one_cycle(*a, momentum=(0.5, 0.9))}),
        (small, {"scheduler": lambda *a: cosine(*a, warmup=0.5)}),
        (small, {"precision": "16-mixed"}),
        (small, {"precision": "bf16-mixed", "optimizer": adamw}),
        (convolutional, {}),
        (convolutional, {"optimizer": adamw, "precision": "16-mixed", "clip": 1.0}),
        (Tied, {}),
        (small, {"optimizer": Fading}),
    ],
    ids=[
        "SGD",
        "bounded",
        "AdamW",
        "momentum cycle",
        "warm-up",
        "16-mixed",
        "bf16",
        "conv",
        "conv AdamW 16",
        "tied",
        "own",
    ],
)
def test_a_training_that_broke_off_ends_in_the_bits_of_one_that_did_not(tmp_path, few, build, recipe):
    undisturbed = train(tmp_path / "undisturbed", few, build=build, **recipe)
    for stop in (1, 2, 4):  # three times in one training
        with pytest.raises(Stop):
            train(tmp_path / "broken", few, build=build, stop=stop, **recipe)
    resumed = train(tmp_path / "broken", few, build=build, **recipe)
    assert same(resumed, undisturbed)
    histories = [(tmp_path / name / HISTORY).read_text() for name in ("broken", "undisturbed")]
    assert histories[0] == histories[1]
    assert histories[0].count("\n") == EPOCHS


def test_what_float16_makes_of_its_scale_is_kept(tmp_path, few):
    def steep(parameters):
        return torch.optim.SGD(parameters, lr=1e-9)

    def huge(logits: Tensor, batch: object) -> dict[str, Tensor]:
        return {"loss": (logits * 30).square().sum() * 20}  # overflows at the first scales: steps are left out

    states = []
    for stop in (None, 3):
        torch.manual_seed(0)
        model, folder = small(), tmp_path / str(stop)
        folder.mkdir()
        rule = Recipe(EPOCHS, 32, steep, cosine, precision="16-mixed")

        def run(model=model, folder=folder, rule=rule, at: int | None = None) -> None:
            def on_step(epoch: int, step: int) -> None:
                if epoch == at:
                    raise Stop

            (folder / HISTORY).touch()
            fit(model, Batches(few, 32, 5, CPU), huge, rule, checkpoint=keep(folder), watch=Seen(step=on_step))

        if stop:
            with pytest.raises(Stop):
                run(at=stop)
        run()
        tensors, plain = _read(folder / FILE)
        states.append((plain["scaler"], tensors))
    assert states[0][0]["scale"] < 65536, "the case is one where the scale moves"
    assert states[0][0] == states[1][0]
    assert all(torch.equal(states[0][1][name], states[1][1][name]) for name in states[0][1])


@pytest.mark.parametrize("where", [(0, 0), (2, 3), (2, LAST_STEP), (EPOCHS - 1, LAST_STEP)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_amid_an_epoch_writes_a_checkpoint_of_that_step(tmp_path, few, caplog, number, where) -> None:
    """Also where none was due: with the usual settings, the first is due after ten minutes."""
    caplog.set_level(logging.INFO)

    def usual(folder: Path) -> Checkpoint:
        return Checkpoint(folder, "student", EPOCHS, None, 10.0, {})

    undisturbed = train(tmp_path / "undisturbed", few, checkpoint=usual(tmp_path / "undisturbed"))
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(KeyboardInterrupt) as struck:
        train(tmp_path / "struck", few, checkpoint=usual(tmp_path / "struck"), strike=(*where, number))
    assert struck.value.args == (number,), "so that the exit status is 128 + number"
    assert [signal.getsignal(each) for each in SIGNALS] == before
    resumed = train(tmp_path / "struck", few, checkpoint=usual(tmp_path / "struck"))
    epoch, step = where
    assert f"student: going on in epoch {epoch + 1} of 6, after {step + 1} of {LAST_STEP + 1} steps" in caplog.text
    assert same(resumed, undisturbed)
    histories = [
        [json.loads(line) for line in (tmp_path / name / HISTORY).read_text().splitlines()]
        for name in ("struck", "undisturbed")
    ]
    for mended, whole in zip(*histories, strict=True):
        assert mended == pytest.approx(whole, rel=1e-6), "sums of float32 in other blocks"


def test_whoever_presses_ctrl_c_twice_does_not_wait_for_the_step(tmp_path, few) -> None:
    def twice(epoch: int, step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it went on")

    (tmp_path / HISTORY).touch()
    rule = Recipe(EPOCHS, 32, sgd, cosine)
    with pytest.raises(KeyboardInterrupt):
        fit(small(), Batches(few, 32, 5, CPU), CrossEntropy(), rule, checkpoint=keep(tmp_path), watch=Seen(step=twice))
    assert not (tmp_path / FILE).exists()


def test_a_long_epoch_is_written_down_amid_its_steps(tmp_path, few, monkeypatch) -> None:
    clock, saved = [0.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    keeping = Checkpoint(tmp_path, "student", EPOCHS, None, 10.0, {})
    write = module.save_file
    monkeypatch.setattr(module, "save_file", lambda *words: (saved.append(clock[0]), write(*words)))
    (tmp_path / HISTORY).touch()

    def minutes(epoch: int, step: int) -> None:
        clock[0] += 60 * 4

    fit(
        small(),
        Batches(few, 32, 5, CPU),
        CrossEntropy(),
        Recipe(1, 32, sgd, cosine),
        checkpoint=keeping,
        watch=Seen(step=minutes),
    )
    assert saved == [60 * 4 * (step + 1) for step in range(LAST_STEP + 1) if step % 3 == 2]


def test_the_best_epoch_before_the_break_is_still_the_one_that_is_taken(tmp_path, few, digits):
    """Everything after epoch 2 makes the model worse, so the weights to take come from before the break."""

    def worse(optimizer, epochs, steps):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 2 * steps else 80.0)

    def gentle(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    rule = {"select": "best_validation", "scheduler": worse, "optimizer": gentle}
    undisturbed = train(tmp_path / "undisturbed", few, digits.validation, **rule)
    lines = (tmp_path / "undisturbed" / HISTORY).read_text().splitlines()
    figures = [json.loads(line)["validation_accuracy"] for line in lines]
    assert max(figures) > max(figures[4:])
    with pytest.raises(Stop):
        train(tmp_path / "broken", few, digits.validation, stop=4, **rule)
    assert same(train(tmp_path / "broken", few, digits.validation, **rule), undisturbed)


def test_it_goes_on_and_does_not_begin_anew(tmp_path, few, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(Stop):
        train(tmp_path, few, stop=4)
    checkpoint = keep(tmp_path)
    with pytest.raises(Stop):  # epochs are counted from 0: 4 is the first one that is trained
        train(tmp_path, few, stop=4, checkpoint=checkpoint)
    assert said(caplog) == ["student: going on after epoch 4 of 6"]
    assert checkpoint.kept == "after epoch 4 of 6"


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


def test_nothing_is_written_before_the_time_has_come(tmp_path, few, monkeypatch):
    def made(every_epochs: int | None, every_minutes: float | None) -> list[int]:
        """After which epochs a checkpoint is written where each takes a minute."""
        clock, epochs = [0.0], []
        monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(module, "save_file", lambda tensors, path, *_: (path.touch(), epochs.append(state.epoch)))
        checkpoint = Checkpoint(tmp_path, "student", EPOCHS, every_epochs, every_minutes, {})
        (tmp_path / HISTORY).touch()
        parameter = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(parameter.parameters(), lr=0.1)
        state = State(parameter, optimizer, cosine(optimizer, 9, 1), torch.amp.GradScaler("cpu"), Meter(), 1)
        with checkpoint.resumed(state) as keep_it:
            for epoch in range(1, 10):
                clock[0], state.epoch = 60.0 * epoch, epoch
                keep_it()
        return epochs

    assert made(None, None) == []
    assert made(1, None) == list(range(1, 10))
    assert made(4, None) == [4, 8]
    assert made(None, 3.0) == [3, 6, 9]
    assert made(4, 3.0) == [3, 4, 7, 8], "the time counts from the last one, whatever asked for it"


def test_an_optimizer_whose_state_cannot_be_written_down_trains_without(tmp_path, few, caplog):
    class Odd(torch.optim.SGD):
        def step(self, closure=None):
            super().step()
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["kept"] = [parameter.detach()]

    caplog.set_level(logging.INFO)
    train(tmp_path, few, optimizer=lambda parameters: Odd(parameters, lr=0.1, momentum=0.9))
    assert "student: goes without checkpoints" in caplog.text
    assert not (tmp_path / FILE).exists()


# --- the command

TRAINED = ("teacher.train.epochs=6", "student.train.epochs=6", "baseline=false")


def test_how_often_is_no_part_of_what_is_made(tmp_path: Path) -> None:
    first = inside("distill", *TRAINED, cwd=tmp_path).result
    again = inside("distill", *TRAINED, "checkpoint.every_epochs=1", "checkpoint.every_minutes=null", cwd=tmp_path)
    assert all(stage["cached"] for stage in again.result["stages"].values())
    assert again.result["student"]["artifact"] == first["student"]["artifact"]


@pytest.mark.parametrize("word", ["every_epochs=0", "every_epochs=-1", "every_minutes=0", "every_minutes=nan"])
def test_an_interval_that_is_none_is_refused(tmp_path: Path, word: str) -> None:
    refused = inside("train-teacher", f"checkpoint.{word}", cwd=tmp_path)
    assert refused.status == 1
    assert f"checkpoint.{word.partition('=')[0]} must be a " in refused.err
    assert not (tmp_path / "outputs").exists()


def test_a_training_that_cannot_succeed_leaves_no_checkpoint(tmp_path: Path) -> None:
    jump = ("scheduler@teacher.train.scheduler=multi_step", "teacher.train.scheduler.milestones=[2]")
    words = ("train-teacher", *jump, "teacher.train.scheduler.gamma=1e30", "checkpoint.every_epochs=1")
    done = inside(*words, cwd=tmp_path)
    assert "in epoch 3 of" in done.err, "two epochs, and a checkpoint after each, come before it"
    assert list((tmp_path / "outputs" / "teachers").iterdir()) == []


def student(folder: Path, done: Outcome) -> dict[str, str]:
    stored = folder / "outputs" / done.result["student"]["artifact"]
    return json.loads((stored / "manifest.json").read_text())["files"]["model.safetensors"]


def struck(folder: Path, kind: str, number: int, *words: str) -> tuple[int, str]:
    """Runs a command that gets this signal at some moment after the first checkpoint of a training below `kind`."""
    process = subprocess.Popen(
        [str(KD), *words], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    until = time.monotonic() + 900
    while not list((folder / "outputs" / kind).glob(f".*/{FILE}")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.002)
    time.sleep(random.Random(f"{kind} {number}").uniform(0, 0.1))
    os.kill(process.pid, number)
    told = process.communicate(timeout=900)[1]
    return process.returncode, told


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return student(folder, inside("distill", *LONGER, cwd=folder))


LONGER = ("teacher.train.epochs=20", "student.train.epochs=60", "baseline=false", "device=cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    "blows",
    [
        {"teachers": (signal.SIGKILL, -9), "students": (signal.SIGKILL, -9)},
        {"teachers": (signal.SIGTERM, 143), "students": (signal.SIGUSR1, 138)},
    ],
    ids=["SIGKILL", "SIGTERM, SIGUSR1"],
)
def test_struck_in_the_teachers_and_in_the_students_stage(tmp_path, undisturbed, blows) -> None:
    words = ("distill", *LONGER, "checkpoint.every_epochs=1")
    for kind, (number, status) in blows.items():
        code, told = struck(tmp_path, kind, number, *words)
        assert code == status
        assert "Traceback" not in told
        (unfinished,) = (tmp_path / "outputs" / kind).iterdir()
        assert unfinished.name.endswith(".partial")
        results = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "runs").glob("*/result.json")]
        assert {result["status"] for result in results} == {"interrupted"}
        if number != signal.SIGKILL:
            assert "the same command goes on from there" in told.splitlines()[-1]
            assert re.search(rf"{kind[:-1]}: interrupted, kept (after|in) epoch \d+ of", told)
    done = inside(*words, cwd=tmp_path)
    assert re.search(r"student: going on (after|in) epoch \d+ of 60", done.err)
    assert student(tmp_path, done) == undisturbed
    assert not list((tmp_path / "outputs").glob("*/*/checkpoint*"))
    assert not list((tmp_path / "outputs").glob("*/.*.partial"))
