"""Signals to end, to whomever they are sent, and errors: what had been learnt is written down, and gone on from."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from running import KD, environment, inside
from safetensors.torch import load_file
from watching import Seen

from kd_cli.datasets.image_folder import image_folder
from kd_cli.interruption import SIGNALS, Hold
from kd_cli.steps import trained_model as training
from kd_cli.train.checkpoint import FILE

LONG = ("teacher.train.epochs=2", "baseline=false", "device=cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of a few dozen small images."""
    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 24), ("test", 4)):
        for label in range(2):
            (folder / part / f"class{label}").mkdir(parents=True)
            for k in range(count):
                pixels = torch.randint(0, 100 + 100 * label, (8, 8), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / part / f"class{label}" / f"{k}.png")
    return folder


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The installed command, in a process group of its own."""
    return subprocess.Popen(
        [str(KD), *words],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )


def until(process: subprocess.Popen[str], there: Callable[[], bool]) -> None:
    while not there():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def checkpoints(folder: Path, kind: str = "students") -> list[Path]:
    return sorted((folder / "outputs" / kind).glob(f".*/{FILE}"))


def begun(folder: Path, kind: str) -> list[Path]:
    """The histories of trainings that have had an epoch."""
    return [path for path in (folder / "outputs" / kind).glob(".*/history.jsonl") if path.stat().st_size]


def weights(folder: Path, kind: str = "students") -> dict[str, dict[str, torch.Tensor]]:
    found = (folder / "outputs" / kind).glob("[0-9a-f]*/model.safetensors")
    return {path.parent.name: load_file(path) for path in found}


def equal(one: dict[str, dict[str, torch.Tensor]], other: dict[str, dict[str, torch.Tensor]]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name][key]) for name, state in one.items() for key, value in state.items()
    )


# Whom a signal reaches.


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_does_not_end_a_loaders_workers(number: int, images: Path, tmp_path: Path) -> None:
    words = (
        "train-teacher", "teacher=cnn_digits", "model@teacher.model=mlp_30", "dataset=image_folder",
        f"dataset.root={images}", "dataset.size=8", "dataset.channels=1", "dataset.workers=2", "device=cpu",
        "teacher.train.batch_size=4",
    )  # fmt: skip
    process = start(tmp_path, *words, "teacher.train.epochs=100000")
    until(process, lambda: bool(begun(tmp_path, "teachers")))
    os.killpg(process.pid, number)
    said = process.communicate()[1]
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert len(checkpoints(tmp_path, "teachers")) == 1


@pytest.mark.parametrize("number", SIGNALS)
def test_a_loaders_workers_decode_on_after_a_signal(number: int, images: Path) -> None:
    split = image_folder(str(images), size=8, channels=1, workers=2).train
    stream = split.samples.stream(list(torch.arange(48).split(2)), torch.device("cpu"))
    seen = [next(stream)]
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, number)
    seen += stream
    assert torch.equal(torch.cat(seen), next(split.samples.stream([torch.arange(48)], torch.device("cpu"))))


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True], ids=["the parent alone", "the whole group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_each_of_a_launchers_workers_writes_down_where_it_stands(
    number: int, whole_group: bool, tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    words = ("sweep", "seed=0,1,2", *LONG, *joblib)
    process = start(tmp_path, *words, "student.train.epochs=100000")
    until(process, lambda: len(begun(tmp_path, "students")) == 2)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    said = process.communicate()[1]
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert len(checkpoints(tmp_path)) == 2
    results = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "sweeps").glob("*/*/result.json")]
    assert [result["status"] for result in results] == ["interrupted"] * 2, "the third had not begun, and did not"


def test_an_error_that_a_signal_led_to_is_the_signals() -> None:
    def work() -> None:
        with Hold():
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker is killed by signal: Terminated.")

    with pytest.raises(KeyboardInterrupt) as struck:
        work()
    assert struck.value.args == (signal.SIGTERM,)


# A signal waits for what is being written.


def test_a_hold_within_a_hold_ends_with_the_outer_one() -> None:
    before, reached = [signal.getsignal(number) for number in SIGNALS], []
    hold = Hold()

    def strike() -> None:
        with hold:
            with hold:
                os.kill(os.getpid(), signal.SIGTERM)
                reached.append("inner")
            reached.append("outer")

    with pytest.raises(KeyboardInterrupt) as struck:
        strike()
    assert (reached, struck.value.args) == (["inner", "outer"], (signal.SIGTERM,))
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("where", ["weights", "digests", "name"])
def test_a_trained_student_that_is_being_written_is_stored_before_the_signal_is_obeyed(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck: list[str] = []

    def strike() -> None:
        if not struck and list((tmp_path / "outputs" / "students").glob(".*")):
            struck.append(where)
            os.kill(os.getpid(), signal.SIGTERM)

    def first(of: Any, name: str) -> None:
        real = getattr(of, name)
        monkeypatch.setattr(of, name, lambda *words, **more: (strike(), real(*words, **more))[1])

    {
        "weights": lambda: first(training, "save_file"),
        "digests": lambda: first(sys.modules["kd_cli.store.artifacts"], "digests_of"),
        "name": lambda: first(Path, "rename"),
    }[where]()
    done = inside("distill", *LONG, "student.train.epochs=2", cwd=tmp_path)
    assert struck == [where]
    assert done.status == 143
    assert len(weights(tmp_path)) == 1
    assert not list((tmp_path / "outputs" / "students").glob(".*"))
    again = inside("distill", *LONG, "student.train.epochs=2", cwd=tmp_path).result
    assert again["stages"]["student"]["cached"]


# An error leaves what a signal leaves.

OBJECTIVE = """
from kd_cli.objectives.hinton import Hinton

class Fails(Hinton):
    steps = 0

    def __call__(self, answer, batch):
        Fails.steps += 1
        if Fails.steps == {at}:
            raise {error}
        return super().__call__(answer, batch)
"""
GROUP = """
_target_: {module}.Fails
temperature: ${{temperature}}
soft_weight: ${{soft_weight}}
hard_weight: ${{hard_weight}}
"""


def plug_in(folder: Path, module: str, at: int, error: str) -> tuple[str, ...]:
    (folder / f"{module}.py").write_text(OBJECTIVE.format(at=at, error=error))
    (folder / "mine" / "objective").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "objective" / "fails.yaml").write_text(GROUP.format(module=module))
    return "--config-dir", "mine", "objective=fails"


@pytest.mark.parametrize("error", ["OSError(28, 'No space left on device')", "MemoryError()", "RuntimeError('odd')"])
def test_an_error_amid_training_leaves_a_checkpoint_that_is_gone_on_from(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"fails_{abs(hash(error))}"
    words = ("distill", *LONG, "student.train.epochs=4", *plug_in(tmp_path, module, 30, error))
    failed = inside(*words, cwd=tmp_path)
    assert failed.status == 1
    assert "student: broken off, kept in epoch 2 of 4, after" in failed.err
    assert len(checkpoints(tmp_path)) == 1
    sys.modules[module].Fails.steps = 100  # mended
    resumed = inside(*words, cwd=tmp_path)
    assert "student: going on in epoch 2 of 4, after" in resumed.err
    mended = weights(tmp_path)
    (tmp_path / "outputs").rename(tmp_path / "before")
    inside(*words, cwd=tmp_path).result  # noqa: B018  # it is asserted that it completes
    assert equal(mended, weights(tmp_path))


def test_an_error_amid_a_step_that_has_changed_the_model_keeps_no_half_step(tmp_path: Path) -> None:
    words = ("model@student.model=resnet20", *plug_in(tmp_path, "fails_amid", 3, "OSError('odd')"))
    failed = inside("distill", *LONG, "student.train.epochs=1", *words, "student.train.batch_size=500", cwd=tmp_path)
    assert failed.status == 1
    assert "student: broken off, not kept" in failed.err, "the batch statistics had moved"
    assert checkpoints(tmp_path) == []


# A population.


@pytest.mark.parametrize("more", [(), ("student.train.select=best_validation", "dataset.validation=0.1")])
def test_a_population_that_is_interrupted_goes_on_to_the_same_bits(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "sweep", "temperature=1,4", "seed=0,1", *LONG, "student.train.epochs=4", "hydra/launcher=population", *more,
    )  # fmt: skip
    (tmp_path / "whole").mkdir()
    assert inside(*words, cwd=tmp_path / "whole").status == 0
    struck = []
    from kd_cli.steps import population

    real = population.fit_population

    def fit(members: Any, validation: Any, checkpoint: Any, watch: Any) -> Any:
        def strike(epoch: int, step: int) -> None:
            watch.step(epoch, step)
            if (epoch, step) == (2, 3) and not struck:
                struck.append(step)
                os.kill(os.getpid(), signal.SIGTERM)

        return real(members, validation, checkpoint, Seen(strike, watch.epoch))

    monkeypatch.setattr(population, "fit_population", fit)
    stopped = inside(*words, cwd=tmp_path)
    assert stopped.status == 143
    assert "students: interrupted, kept in epoch 3 of 4, after 4 of" in stopped.err
    assert len(checkpoints(tmp_path)) == 1
    resumed = inside(*words, cwd=tmp_path)
    assert "students: going on in epoch 3 of 4, after 4 of" in resumed.err
    assert resumed.status == 0, resumed.err
    assert equal(weights(tmp_path), weights(tmp_path / "whole"))
    for path in (tmp_path / "whole" / "outputs" / "students").glob("*/history.jsonl"):
        theirs = (tmp_path / "outputs" / "students" / path.parent.name / path.name).read_text().splitlines()
        for line, other in zip(path.read_text().splitlines(), theirs, strict=True):
            one, two = json.loads(line), json.loads(other)
            assert one.pop("samples_per_second") > 0
            assert two.pop("samples_per_second") > 0
            assert one == two
    assert not list((tmp_path / "outputs" / "students").glob(".*"))
