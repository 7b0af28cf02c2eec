"""The largest logits alone, with the mass of the rest."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from kd_cli.data.samples import Split
from kd_cli.errors import ArtifactError, ConfigError
from kd_cli.store.artifacts import Store
from kd_cli.targets.soft_targets import SoftTargets, Storage, write_targets

CPU = torch.device("cpu")


@pytest.fixture
def dump_few(tmp_path: Path):
    """A store of the `top_k` largest of the logits given for each view."""

    def make(split: Split, logits: list[Tensor], storage: Storage):
        def fill(folder: Path) -> dict[str, object]:
            write_targets(folder, lambda view: logits[view].split(7), split, len(logits), storage)
            return {"classes": logits[0].shape[1], "temperatures": list(storage.temperatures)}

        return Store(tmp_path).write("soft_targets", storage.identity, fill)

    return make


def spread(views: int = 2, classes: int = 30) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(41, classes, generator=generator) * 6 for _ in range(views)]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_largest_logits_are_read_back_with_the_mass_of_the_rest(dump_few, named, temperature):
    logits = spread()
    stored = SoftTargets(dump_few(named.split, logits, Storage("float16", 8, (1.0, 4.0))), CPU, temperature)
    positions = torch.tensor([40, 0, 7, 7])
    for view in range(2):
        rows, exact = stored(positions, view, torch.empty(0)), logits[view][positions].double()
        assert (rows.dtype, rows.shape) == (torch.float32, (4, 30))
        ours, dense = (x.double().div(temperature).softmax(1) for x in (rows, exact))
        largest = exact.topk(8).indices
        assert torch.allclose(ours.gather(1, largest), dense.gather(1, largest), atol=2e-3)
        rest = 1 - dense.gather(1, largest).sum(1)
        assert torch.allclose(1 - ours.gather(1, largest).sum(1), rest, rtol=1e-3)
        assert ((ours - dense).abs().sum(1) / 2 <= rest + 2e-3).all()


def test_a_temperature_that_was_not_stated_is_refused(dump_few, named):
    artifact = dump_few(named.split, spread(), Storage("float16", 8, (1.0, 4.0)))
    with pytest.raises(ConfigError) as refusal:
        SoftTargets(artifact, CPU, 2.0)
    assert str(refusal.value) == (
        "temperature must be one of those the stored targets state (1, 4), got 2.0. Add it to targets.temperatures."
    )


@pytest.mark.parametrize("top_k", [1, 8, 30])
def test_the_check_of_the_join_holds_for_the_largest_logits_too(dump_few, named, top_k):
    logits = spread(classes=30)
    stored = SoftTargets(dump_few(named.split, logits, Storage("float16", top_k, (4.0,))), CPU, 4.0)
    stored.check(named.split, lambda view, positions: logits[view][positions] * 1.001 + 3)
    for wrong in (
        lambda view, positions: logits[view][(positions + 1) % 41],
        lambda view, positions: logits[1 - view][positions],
        lambda view, positions: logits[view][positions].roll(1, 1),
        lambda view, positions: logits[view][positions] * float("nan"),
    ):
        with pytest.raises(ArtifactError, match="is not what this teacher says"):
            stored.check(named.split, wrong)


def test_few_logits_take_the_bytes_that_room_was_looked_for(dump_few, named):
    storage = Storage("float16", 8, (1.0, 4.0))
    shard = next(dump_few(named.split, spread(views=1), storage).folder.glob("logits-*"))
    assert storage.row_bytes(30) == 8 * (2 + 4) + 2 * 4
    assert 0 <= shard.stat().st_size - 41 * storage.row_bytes(30) < 400, "the header"
