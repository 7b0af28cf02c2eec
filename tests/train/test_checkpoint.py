"""A training that broke off goes on and ends in the same bits."""

import json
import logging
import os
import signal
from pathlib import Path

import pytest
import torch
from broken_off import CPU, EPOCHS, Stop, adamw, keep, said, same, sgd, small, train
from torch import Tensor, nn
from watching import Seen

from kd_cli.data.samples import Answer
from kd_cli.models.resnet import resnet
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.store.history import HISTORY
from kd_cli.train import checkpoint as module
from kd_cli.train.batches import Batches
from kd_cli.train.checkpoint import FILE, Checkpoint, State, _read
from kd_cli.train.fit import fit
from kd_cli.train.meter import Meter
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import cosine, one_cycle

LAST_STEP = 4  # of an epoch of `few` in batches of 32
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def plain_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


class Fading(torch.optim.Optimizer):
    """What it has come to is a number of its group, of which no schedule knows."""

    def __init__(self, parameters):  # type: ignore[no-untyped-def]
        super().__init__(parameters, {"lr": 0.1, "strength": 1.0})

    def step(self, closure=None):  # type: ignore[no-untyped-def]
        for group in self.param_groups:
            group["strength"] *= 0.9
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"] * group["strength"])


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

    def huge(answer: Answer, batch: object) -> dict[str, Tensor]:
        return {"loss": (answer.logits * 30).square().sum() * 20}  # overflows at the first scales: steps are left out

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
