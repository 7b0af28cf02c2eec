import json
import os
import resource
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
import torch
from running import environment
from safetensors.torch import load_file
from told import tell

from kd_cli.data.samples import Split
from kd_cli.errors import ConfigError
from kd_cli.targets import soft_targets
from kd_cli.targets.soft_targets import SoftTargets, Storage, check_room
from kd_cli.train.batches import Batches

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_is_read_back_for_any_rows_of_any_view(dump, named, dtype):
    split = named.split
    stored = SoftTargets(dump(split, dtype=dtype), CPU)
    positions = torch.tensor([40, 0, 7, 7])
    for view in range(3):
        rows = stored(positions, view, torch.empty(0))
        assert rows.dtype == torch.float32
        assert torch.equal(rows, tell(split, view, positions))


def test_the_folder_holds_one_file_a_view_and_the_samples(dump, named):
    folder = dump(named.split, views=2).folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "logits-00000.safetensors",
        "logits-00001.safetensors",
        "manifest.json",
        "samples.safetensors",
    ]
    logits = load_file(folder / "logits-00001.safetensors")["logits"]
    assert (logits.dtype, logits.shape) == (torch.float16, (41, 6))
    samples = load_file(folder / "samples.safetensors")
    assert torch.equal(samples["index"], named.split.index)
    assert torch.equal(samples["crc32"], named.split.samples.checksums())
    assert all(tensor.dtype == torch.int64 for tensor in samples.values())


def test_more_views_than_a_process_may_open_files(dump, named):
    split, views = named.split, 80
    artifact = dump(split, views=views)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free_descriptor() + 20, before[1]))
    try:
        stored = SoftTargets(artifact, CPU)
        for view in (*range(views), 3, 0):
            assert torch.equal(stored(torch.tensor([5, 40]), view, torch.empty(0)), tell(split, view, [5, 40]))
        stored.check(split, lambda view, positions: tell(split, view, positions))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(stored.views) == views


def first_free_descriptor() -> int:
    free = os.dup(0)
    os.close(free)
    return free


def test_every_step_gets_the_logits_of_its_own_samples_and_view(dump, named):
    split = named.split
    batches = Batches(split, 8, seed=3, device=CPU, views=3, targets=SoftTargets(dump(split), CPU))
    for epoch in range(4):
        seen = []
        for batch in batches.epoch(epoch):
            samples = named.of(batch.inputs)
            assert torch.equal(batch.teacher.logits, tell(split, epoch % 3, samples))
            assert torch.equal(batch.labels, split.labels[samples])
            seen.append(samples)
        assert torch.equal(torch.cat(seen).sort().values, torch.arange(41))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_stored_logits_give_the_soft_targets_of_every_temperature(dump, named, temperature):
    confident = (
        np.random.default_rng(0).normal(0, 12, (41, 10)) + 100
    )  # half of its T = 1 probabilities are 0 in float16
    split = named.split
    artifact = dump(split, views=1, logits=lambda view: torch.from_numpy(confident).float())
    rows = SoftTargets(artifact, CPU)(torch.arange(41), 0, torch.empty(0)).double().numpy()

    def soften(logits: np.ndarray) -> np.ndarray:
        powers = np.exp((logits - logits.max(1, keepdims=True)) / temperature)
        return powers / powers.sum(1, keepdims=True)

    variation = np.abs(soften(rows) - soften(confident)).sum(1) / 2
    assert variation.max() < 1e-3
    assert rows.max(1) == pytest.approx(0)  # max-centred


def test_ids_beyond_2048_are_exact_for_samples_and_classes(dump):
    from kd_cli.data.resident import Resident

    count, classes = 5, 3001
    index = torch.tensor([2049, 32769, 65537, 16_777_217, 2**40 + 1])
    split = Split(Resident(torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1)), torch.arange(count), index)
    logits = torch.full((count, classes), -9.0)
    favourites = torch.tensor([0, 2049, 2051, 2999, 3000])
    logits[torch.arange(count), favourites] = 5.0
    artifact = dump(split, views=1, logits=lambda view: logits)
    assert torch.equal(load_file(artifact.folder / "samples.safetensors")["index"], index)
    rows = SoftTargets(artifact, CPU)(torch.arange(count), 0, torch.empty(0))
    assert torch.equal(rows.argmax(1), favourites)


def test_logits_beyond_the_range_of_float16_stay_finite(dump, named):
    far = torch.tensor([[0.0, -1e6, -3.0, 0, 0, 0]]).expand(41, 6)
    rows = SoftTargets(dump(named.split, 1, logits=lambda view: far), CPU)(torch.arange(3), 0, far)
    assert rows.isfinite().all()
    assert (rows[:, 1] < -6e4).all()


def test_reading_takes_no_memory_of_the_process(dump):
    """In a process whose data may grow by far less than the file holds."""
    from kd_cli.data.resident import Resident

    count, classes = 100_000, 500  # 100 MB
    index = torch.arange(count)
    split = Split(Resident(torch.zeros(count, 1, 1, 1, dtype=torch.uint8)), index, index)
    rows = torch.zeros(count, classes, dtype=torch.float16)
    rows[:, 1] = -(index % 512)
    artifact = dump(split, views=1, logits=lambda view: rows)
    done = subprocess.run(
        [sys.executable, "-c", READS, str(artifact.folder)], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20_000, "kB"


READS = """
import resource, sys
from pathlib import Path
import torch
from kd_cli.store.artifacts import read_artifact
from kd_cli.targets.soft_targets import SoftTargets

def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

torch.arange(1 << 20).float().index_select(0, torch.arange(5))
before = status("RssAnon")
resource.setrlimit(resource.RLIMIT_DATA, ((status("VmData") + 60_000) * 1024,) * 2)
targets = SoftTargets(read_artifact(Path(sys.argv[1])), torch.device("cpu"))
for positions in torch.randperm(100_000).split(500):
    rows = targets(positions, 0, torch.empty(0))
    assert torch.equal(rows[:, 1], -(positions % 512).float())
print(status("RssAnon") - before)
"""


def test_targets_hold_neither_probabilities_nor_pickles(dump, named):
    artifact = dump(named.split, logits=lambda view: tell(named.split, view) + 7)
    assert all(name.endswith(".safetensors") for name in artifact.manifest["files"])
    assert load_file(artifact.folder / "logits-00000.safetensors")["logits"].min() < 0
    assert json.loads((artifact.folder / "manifest.json").read_text()) == artifact.manifest


Disk = namedtuple("Disk", "total used free")


def test_check_room_counts_the_bytes_of_all_views(tmp_path, monkeypatch):
    monkeypatch.setattr(soft_targets.shutil, "disk_usage", lambda folder: Disk(0, 0, 10_000_000))
    below = tmp_path / "not" / "yet" / "made"
    check_room(below, 10_000, 4, 100, Storage("float16"))  # 8 MB of 10
    with pytest.raises(ConfigError) as refusal:
        check_room(below, 10_000, 8, 100, Storage("float16"))
    assert str(refusal.value) == (
        "transfer.views must be at most 4 here, got 8. 8 views × 10,000 samples × 100 classes need 16.0 MB, 10.0 MB "
        "are free. Lower it, or run the teacher in each step with teacher.online=true."
    )
    with pytest.raises(ConfigError, match="at most 2 here"):
        check_room(below, 10_000, 4, 100, Storage("float32"))


def test_stored_bytes_are_those_of_the_logits_and_at_most_a_hundredth_more(dump):
    from kd_cli.data.resident import Resident

    samples, classes, views = 300, 1000, 2
    index = torch.arange(samples)
    split = Split(Resident(torch.zeros(samples, 1, 1, 1, dtype=torch.uint8)), index, index)
    folder = dump(split, views=views, logits=lambda view: torch.randn(samples, classes)).folder
    data = 2 * samples * classes
    for shard in folder.glob("logits-*"):
        assert data <= shard.stat().st_size <= 1.01 * data
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert views * data <= stored <= 1.01 * views * data


def test_the_identity_of_dense_targets_states_no_temperature():
    assert Storage("float32").identity == {"dtype": "float32"}
    assert Storage("float16", None, (4.0,)).identity == {"dtype": "float16"}
    few = {"dtype": "float16", "top_k": 3, "temperatures": [1.0, 4.0]}
    assert Storage("float16", 3, (1.0, 4.0)).identity == few
