"""How a dump computes: what a kill leaves to the next attempt, and what another batch size changes."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from running import KD, TINY, Outcome, environment, inside
from torch import Tensor, nn

from kd_cli.data.augment import Shift
from kd_cli.files.digests import sealed
from kd_cli.measure import prediction
from kd_cli.measure.prediction import predictions
from kd_cli.models.cnn import cnn
from kd_cli.models.mlp import mlp
from kd_cli.models.resnet import resnet
from kd_cli.steps import dump as dump_targets
from kd_cli.targets import soft_targets

CPU = torch.device("cpu")
VIEWS = ("augment@transfer.augment=jitter", TINY[0])
NETS = {
    "mlp": lambda: mlp(10, (1, 8, 8), widths=[100, 100]),
    "cnn": lambda: cnn(10, (1, 8, 8), channels=[16, 32], widths=[64]),
    "resnet": lambda: resnet(10, (1, 8, 8), depth=8),
}


def manifest(done: Outcome, folder: Path) -> dict[str, Any]:
    stored = folder / "outputs" / done.result["stages"]["soft_targets"]["artifact"]
    return json.loads((stored / "manifest.json").read_text())


def shards(folder: Path) -> dict[str, tuple[int, str]]:
    found = sorted((folder / "outputs" / "soft_targets").glob("*/logits-*"))
    return {path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in found}


def reseal(checkpoint: Path, how: dict[str, Any]) -> None:
    checkpoint.write_text(sealed({key: value for key, value in how.items() if key != "digest"}))


def killed(folder: Path, *words: str) -> dict[str, tuple[int, str]]:
    """Kills a dump outright once it has four views; what it has left."""
    process = subprocess.Popen([str(KD), *words], cwd=folder, env=environment(), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 900
    while len(list((folder / "outputs").glob("soft_targets/.*/logits-*"))) < 4:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return shards(folder)


def test_a_killed_dump_goes_on_at_its_last_whole_view_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    words = ("dump-targets", *VIEWS, "transfer.views=24")
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    left = killed(tmp_path / "killed", *words)
    assert 4 <= len(left) < 24
    done = inside(*words, cwd=tmp_path / "killed")
    resumed = manifest(done, tmp_path / "killed")
    assert f"going on after {len(left)} of 24 views" in done.err
    assert left.items() <= shards(tmp_path / "killed").items(), "not one of them was written again"
    uninterrupted = manifest(inside(*words, cwd=tmp_path / "whole"), tmp_path / "whole")
    assert resumed["files"] == uninterrupted["files"]
    assert resumed["identity"] == uninterrupted["identity"]
    assert not list((tmp_path / "killed" / "outputs" / "soft_targets").glob("*/checkpoint*"))


@pytest.mark.parametrize(("changed", "kept"), [({"torch": "1.0"}, False), ({"threads": 2}, True)])
def test_a_dump_goes_on_as_it_was_begun_or_anew(changed: dict[str, Any], kept: bool, tmp_path: Path) -> None:
    words = ("dump-targets", *VIEWS, "transfer.views=24")
    left = killed(tmp_path, *words)
    (checkpoint,) = (tmp_path / "outputs").glob("soft_targets/.*/checkpoint.json")
    how = json.loads(checkpoint.read_text())
    assert (how["batch_size"], how["memory_format"]) == (256, "channels_last")
    how["batch_size"] = 100
    how["environment"] |= changed
    reseal(checkpoint, how)
    before = torch.get_num_threads()
    about = manifest(inside(*words, cwd=tmp_path), tmp_path)
    assert (left.items() <= shards(tmp_path).items()) is kept
    assert about["batch_size"] == (100 if kept else 256)
    assert about["environment"]["threads"] == (2 if kept else 1)
    assert about["environment"]["torch"] == torch.__version__
    assert torch.get_num_threads() == before


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def forged(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        how = json.loads((folder / "checkpoint.json").read_text())
        reseal(folder / "checkpoint.json", {**how, **changes})

    return change


def in_place_of(make: Any, name: str) -> Any:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


FIRST = "logits-00000.safetensors"
UNFINISHED = {
    "a flipped byte in a view": lambda folder: flip(folder / FIRST),
    "a view cut short": lambda folder: os.truncate(folder / FIRST, 100),
    "an empty view": lambda folder: (folder / FIRST).write_bytes(b""),
    "a missing view": lambda folder: (folder / FIRST).unlink(),
    "two views that changed places": lambda folder: (
        (folder / FIRST).rename(folder / "x"),
        (folder / "logits-00001.safetensors").rename(folder / FIRST),
        (folder / "x").rename(folder / "logits-00001.safetensors"),
    ),
    "a view too many": lambda folder: shutil.copy(folder / FIRST, folder / "logits-00099.safetensors"),
    "another file": lambda folder: (folder / "more.safetensors").write_bytes(b"more"),
    "a pipe in place of a view": in_place_of(os.mkfifo, FIRST),
    "a link to a device in place of a view": in_place_of(lambda path: path.symlink_to("/dev/zero"), FIRST),
    "a folder in place of a view": in_place_of(lambda path: path.mkdir(), FIRST),
    "a pipe in place of the samples": lambda folder: os.mkfifo(folder / "samples.safetensors"),
    "an empty checkpoint": lambda folder: (folder / "checkpoint.json").write_bytes(b""),
    "a checkpoint of a list": lambda folder: (folder / "checkpoint.json").write_text("[]"),
    "a checkpoint in words": lambda folder: (folder / "checkpoint.json").write_text("{"),
    "a checkpoint of other bytes": lambda folder: (folder / "checkpoint.json").write_bytes(b"\xff\xfe"),
    "a deep checkpoint": lambda folder: (folder / "checkpoint.json").write_text('{"a":' * 100_000),
    "a large checkpoint": lambda folder: os.truncate(folder / "checkpoint.json", 1 << 40),
    "a flipped byte in the checkpoint": lambda folder: flip(folder / "checkpoint.json"),
    "a pipe in place of the checkpoint": in_place_of(os.mkfifo, "checkpoint.json"),
    "a link to a device in place of the checkpoint": in_place_of(
        lambda path: path.symlink_to("/dev/zero"), "checkpoint.json"
    ),
    "a folder in place of the checkpoint": in_place_of(lambda path: path.mkdir(), "checkpoint.json"),
    "the checkpoint of another dump": forged(identity="0" * 64),
    "no identity": forged(identity=None),
    "no batch size": forged(batch_size=None),
    "a batch without an end": forged(batch_size=10**9),
    "a batch in words": forged(batch_size="256"),
    "no environment": forged(environment=None),
    "threads without an end": forged(environment={"threads": 10**9}),
    "views elsewhere": forged(shards={"../../x": "0" * 64}),
    "no views": forged(shards=None),
    "a list of views": forged(shards=[FIRST]),
    "views in words": forged(shards={FIRST: 1}),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder in which a dump broke off after three of four views, and the manifest of the whole dump."""
    folder = tmp_path_factory.mktemp("broken")
    words = ("dump-targets", *VIEWS, "transfer.views=4")
    (folder / "whole").mkdir()
    expected = manifest(inside(*words, cwd=folder / "whole"), folder / "whole")
    real = prediction.predictions

    def predictions_of(
        network: Any, split: Any, device: Any, augment: Any, seed: int, view: int = 0, *rest: Any, **more
    ):
        if view == 3:
            raise OSError("it breaks off")
        return real(network, split, device, augment, seed, view, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "predictions", predictions_of)
        assert inside(*words, cwd=folder).status == 1
    return folder, expected


@pytest.mark.parametrize("name", UNFINISHED)
def test_an_unfinished_dump_is_trusted_in_nothing(
    name: str, broken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, expected = broken
    shutil.copytree(folder / "outputs", tmp_path / "outputs")
    (unfinished,) = (tmp_path / "outputs" / "soft_targets").glob(".*.partial")
    UNFINISHED[name](unfinished)
    done = inside("dump-targets", *VIEWS, "transfer.views=4", cwd=tmp_path)
    assert manifest(done, tmp_path)["files"] == expected["files"]
    assert "Traceback" not in done.err


def test_how_a_dump_computed_stands_in_its_manifest_and_not_in_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = inside("distill", *TINY, "baseline=false", cwd=tmp_path)
    about = manifest(first, tmp_path)
    assert (about["batch_size"], about["memory_format"]) == (256, "channels_last")
    monkeypatch.setattr(dump_targets, "fastest_batch", lambda seconds, images: 64)
    other = inside("distill", *TINY, "baseline=false", "output_dir=other", cwd=tmp_path)
    names = [{name: stage["artifact"] for name, stage in run.result["stages"].items()} for run in (first, other)]
    assert names[0] == names[1]
    again = json.loads((tmp_path / "other" / names[0]["soft_targets"] / "manifest.json").read_text())
    assert again["batch_size"] == 64
    assert again["identity"] == about["identity"]


def test_batches_are_halved_until_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = manifest(inside("dump-targets", *VIEWS, "transfer.views=2", cwd=tmp_path), tmp_path)

    class Small(nn.Module):
        """A network on a device whose memory ends, from the second batch on, at 100 images."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network, self.calls = network, 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            if len(images) > 100 and self.calls > 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return self.network(images)

    real = dump_targets._dump

    def small(step: dump_targets.Dump, folder: Path) -> dict[str, Any]:
        return real(replace(step, teacher=replace(step.teacher, network=Small(step.teacher.network))), folder)

    monkeypatch.setattr(dump_targets, "_dump", small)
    done = inside("dump-targets", *VIEWS, "transfer.views=2", "output_dir=other", cwd=tmp_path)
    (path,) = (tmp_path / "other").glob("soft_targets/*/manifest.json")
    about = json.loads(path.read_text())
    assert about["batch_size"] == 64
    assert about["files"] == plain["files"]
    assert "out of memory, going on with batches of 128" in done.err
    assert "out of memory, going on with batches of 64" in done.err


def order(halves: Tensor) -> Tensor:
    """Float16 values as whole numbers, neighbours one apart."""
    bits = halves.view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)


@pytest.mark.parametrize("net", NETS)
def test_another_batch_size_gives_the_same_rows_within_one_unit_in_the_last_place(net: str, digits: Any) -> None:
    torch.manual_seed(0)
    network, rows = NETS[net](), {}
    with dump_targets._laid_out(network, torch.channels_last if net == "cnn" else torch.contiguous_format):
        for size in (1, 37, 64, 256, 1024, 4096):
            logits = torch.cat(list(predictions(network, digits.train, CPU, Shift(2), 3, 1, None, size)))
            rows[size] = (logits - logits.max(1, keepdim=True).values).half()
    for size, ours in rows.items():
        assert (order(ours) - order(rows[256])).abs().max() <= 1, size
        assert torch.equal(ours.argmax(1), rows[256].argmax(1)), size


def test_a_network_is_laid_out_for_the_dump_and_then_as_it_was() -> None:
    network = NETS["cnn"]()
    convolutions = [weight for weight in network.parameters() if weight.ndim == 4 and weight.shape[1] > 1]
    assert convolutions
    with dump_targets._laid_out(network, torch.channels_last):
        assert not any(weight.is_contiguous() for weight in convolutions)
    assert all(weight.is_contiguous() for weight in convolutions)


def test_a_disk_that_fills_amid_a_dump_loses_none_of_the_finished_views(tmp_path: Path) -> None:
    save, saved = soft_targets.save_file, []

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if len(saved) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(path)
        save(tensors, path)

    words = ("dump-targets", *VIEWS, "transfer.views=5")
    with mock.patch.object(soft_targets, "save_file", full):
        done = inside(*words, cwd=tmp_path)
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith("output_dir must be a folder with room")
    left = shards(tmp_path)
    assert len(left) == 3
    again = inside(*words, cwd=tmp_path)
    assert "going on after 3 of 5 views" in again.err
    assert again.status == 0
    assert {name: shards(tmp_path)[name] for name in left} == left
