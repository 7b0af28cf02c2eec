"""Stored logits meet the samples that they are of, or are refused."""

from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from told import tell
from torch import Tensor

from kd_cli.data.samples import Split
from kd_cli.errors import ArtifactError
from kd_cli.targets.soft_targets import SoftTargets

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "change",
    [
        lambda split: split.select(torch.arange(41).flip(0)),
        lambda split: split.select(torch.arange(40)),
        lambda split: Split(split.samples, split.labels, split.index.roll(1)),
        lambda split: Split(split.samples.select(torch.arange(41).roll(1)), split.labels, split.index),
    ],
    ids=["other order", "fewer samples", "other index", "other pixels"],
)
def test_other_samples_than_those_dumped_are_refused(dump, named, change):
    artifact = dump(named.split)
    with pytest.raises(ArtifactError) as refusal:
        SoftTargets(artifact, CPU).check(change(named.split), partial(tell, named.split))
    assert str(refusal.value) == (f"{artifact.folder} holds the logits of other samples than the transfer set.")


def test_labels_are_not_part_of_the_join(dump, named):
    unlabelled = named.split.with_labels(torch.full((41,), -1))
    SoftTargets(dump(named.split), CPU).check(unlabelled, partial(tell, named.split))


def test_a_shard_that_the_manifest_does_not_name_is_not_read(dump, named):
    artifact = dump(named.split, views=1)
    save_file({"logits": torch.zeros(41, 6)}, artifact.folder / "logits-0.safetensors")
    assert len(SoftTargets(artifact, CPU).views) == 1


def test_check_accepts_what_the_teacher_says_up_to_rounding_and_a_constant(dump, named):
    split, generator = named.split, torch.Generator().manual_seed(0)
    logits = {view: torch.randn(41, 6, generator=generator) * 10 for view in range(3)}
    stored = SoftTargets(dump(split, logits=logits.__getitem__), CPU)
    stored.check(split, lambda view, positions: logits[view][positions] * 1.001 + 3)


@pytest.mark.parametrize(
    "recompute",
    [
        lambda logits, view, positions: logits[view][(positions + 1) % 41],
        lambda logits, view, positions: logits[(view + 1) % 3][positions],
        lambda logits, view, positions: logits[view][positions].roll(1, 1),
        lambda logits, view, positions: torch.where(positions[:, None] == 17, 0.0, logits[view][positions]),
        lambda logits, view, positions: logits[view][positions] * float("nan"),
    ],
    ids=["another sample", "another view", "other classes", "one altered sample", "not a number"],
)
def test_check_refuses_logits_of_another_sample_view_class_or_teacher(dump, named, recompute):
    split, generator = named.split, torch.Generator().manual_seed(0)
    logits = {view: torch.randn(41, 6, generator=generator) * 10 for view in range(3)}
    stored = SoftTargets(dump(split, logits=logits.__getitem__), CPU)
    with pytest.raises(ArtifactError) as refusal:
        stored.check(split, lambda view, positions: recompute(logits, view, positions))
    assert str(refusal.value) == f"{stored.folder} is not what this teacher says of the transfer set."


def test_check_asks_for_at_most_256_pairs(dump, named):
    split, asked = named.split, []
    stored = SoftTargets(dump(split, views=9), CPU)

    def recompute(view: int, positions: Tensor) -> Tensor:
        asked.append(positions)
        return tell(split, view, positions)

    stored.check(split, recompute)
    assert sum(map(len, asked)) == 256
