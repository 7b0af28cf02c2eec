"""Generalist and specialists: who knows which classes, on what they are trained, what they say together."""

import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from running import inside
from safetensors.torch import load_file
from torch import Tensor, nn

from kd_cli.data.resident import Resident
from kd_cli.data.samples import Split
from kd_cli.data.splits import whole
from kd_cli.datasets.confusable import confusable
from kd_cli.models.mlp import mlp
from kd_cli.steps import teacher as train_teacher
from kd_cli.teachers.specialists.clustering import confusable_sets
from kd_cli.teachers.specialists.covering import conditional, covering
from kd_cli.teachers.specialists.half_own import HalfOwn, relabelled
from kd_cli.teachers.specialists.network import Specialist, Specialists
from kd_cli.teachers.specialists.solver import combine

CPU = torch.device("cpu")
SHAPE = (1, 2, 2)


def net(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    return mlp(num_classes, input_shape, widths=[5])


# Which classes a specialist has.


@pytest.mark.parametrize("seed", range(3))
def test_classes_that_are_confused_come_into_one_set(seed: int) -> None:
    """Planted: five groups of four, their classes shuffled; each sample's probability is spread over one group."""
    draw = torch.Generator().manual_seed(seed)
    group = torch.randperm(20, generator=draw) % 5
    truth = torch.randint(0, 20, (2000,), generator=draw)
    near = (group[truth][:, None] == group).double()
    probabilities = 0.9 * near * torch.rand(2000, 20, generator=draw, dtype=torch.float64) + 0.01
    probabilities /= probabilities.sum(1, keepdim=True)
    found = confusable_sets(probabilities, 5, 4, seed)
    assert found.tolist() == sorted((group == k).nonzero()[:, 0].tolist() for k in range(5))
    assert torch.equal(confusable_sets(probabilities, 5, 4, seed), found)
    larger = confusable_sets(probabilities, 5, 6, seed)
    for own in found:  # a larger set holds the group, and the nearest of the others
        assert any(set(own.tolist()) < set(other.tolist()) for other in larger)


def test_equal_sets_are_one() -> None:
    probabilities = torch.eye(4)[torch.arange(40) % 4]
    assert len(confusable_sets(probabilities, 4, 4, 0)) == 1


# On what it is trained.


@pytest.fixture
def split() -> Split:
    """120 samples, sample i of class i mod 6 with the byte i."""
    pixels = torch.arange(120, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *SHAPE)
    return whole(Resident(pixels), torch.arange(120) % 6)


def test_a_specialist_sees_its_classes_and_a_dustbin(split: Split) -> None:
    seen = relabelled(split, torch.tensor([1, 4]), 6)
    assert seen.labels[:6].tolist() == [2, 0, 2, 2, 1, 2]
    assert torch.equal(seen.index, split.index)


@pytest.mark.parametrize(("own", "each"), [([1, 4], 40), ([0, 1, 2, 4], 40)])
def test_half_of_an_epoch_are_its_own_classes_the_others_are_drawn_anew(
    split: Split, own: list[int], each: int
) -> None:
    def batches(seed: int = 0) -> HalfOwn:
        return HalfOwn(relabelled(split, torch.tensor(own), 6), len(own), 16, seed, CPU, None)

    epochs = [torch.cat(batches().order(epoch)) for epoch in range(2)]
    for order in epochs:
        mine = torch.isin(split.labels[order], torch.tensor(own))
        assert (len(order), int(mine.sum()), len(order.unique())) == (2 * each, each, 2 * each)
    assert len(batches()) == len(batches().order(0)) == 5
    assert not torch.equal(*(order.sort().values for order in epochs))
    assert torch.equal(torch.cat(batches().order(1)), epochs[1])
    assert not torch.equal(torch.cat(batches(seed=1).order(1)), epochs[1])
    seen = list(batches().epoch(0))
    assert torch.equal(torch.cat([batch.images[:, 0, 0, 0] for batch in seen]).mul(255).round().long(), epochs[0])


def test_the_dustbins_correction_makes_a_calibrated_specialist_of_the_over_sampled_one() -> None:
    """An image is one of four bytes; the specialist knows exactly how often each label comes with it in what it is
    shown. Corrected, it says how often each comes in the whole data, of which a fifth are of its two classes.
    """
    draw = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(3).repeat(500), torch.full((3500,), 2)])
    shown = (labels * 5 + torch.randint(0, 13, (5000,), generator=draw)) % 4
    pixels = shown.to(torch.uint8).view(-1, 1, 1, 1)
    batches = HalfOwn(whole(Resident(pixels), labels), 2, 64, 0, CPU, None)
    counts = torch.zeros(4, 3, dtype=torch.float64)
    counts.index_put_((shown, labels), torch.ones(5000, dtype=torch.float64), accumulate=True)
    drawn = counts * torch.tensor([1, 1, 1000 / 4000])  # what an epoch holds on average: 1,000 of either kind

    class Known(nn.Module):
        def __init__(self, num_classes: int, input_shape: tuple[int, int, int]) -> None:
            super().__init__()

        def forward(self, images: Tensor) -> Tensor:
            return drawn.log()[images[:, 0, 0, 0].mul(255).round().long()]

    specialist = Specialist(3, (1, 1, 1), Known)
    specialist.correction[-1] = batches.over_sampling
    images = (torch.arange(4) / 255).view(-1, 1, 1, 1)
    natural, sampled = (c / c.sum(1, keepdim=True) for c in (counts, drawn))
    assert torch.allclose(specialist.eval()(images).softmax(1), natural, atol=1e-6)
    assert torch.allclose(specialist.train()(images).softmax(1), sampled, atol=1e-6)


def test_a_specialist_starts_from_the_generalist() -> None:
    torch.manual_seed(0)
    generalist, specialist = net(6, SHAPE).eval(), Specialist(3, SHAPE, net).eval()
    specialist.start_from(generalist, [4, 1], 6)
    images = torch.rand(7, *SHAPE)
    before, after = generalist(images), specialist(images)
    assert torch.allclose(after[:, :2], before[:, [4, 1]], atol=1e-6)
    assert torch.allclose(after[:, 2], before[:, [0, 2, 3, 5]].mean(1) + torch.tensor(4.0).log(), atol=1e-6)


def test_a_network_that_depends_on_the_number_of_classes_elsewhere_is_refused() -> None:
    def odd(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes), nn.Linear(num_classes, num_classes))

    refusal = (
        r"teacher.generalist must be a network whose output layer alone depends on the number of classes, "
        r"got one whose 2.weight is \[6, 6\] for 6 classes and \[3, 3\] for 3\."
    )
    with pytest.raises(Exception, match=refusal):
        Specialist(3, SHAPE, odd).start_from(odd(6, SHAPE), [0, 1], 6)


# What they say together.


@pytest.mark.parametrize("top_n", [1, 2, 6])
def test_those_count_that_know_one_of_the_generalists_top_classes(top_n: int) -> None:
    torch.manual_seed(0)
    sets = torch.tensor([[0, 1], [1, 3], [4, 5]])
    generalist, images = net(6, SHAPE), 9 * torch.randn(50, *SHAPE)
    specialists = [Specialist(3, SHAPE, net) for _ in sets]
    together = Specialists(generalist, specialists, sets, top_n).eval()
    general = generalist(images).log_softmax(1)
    said = torch.stack([specialist(images).log_softmax(1) for specialist in specialists], 1)
    top = general.argsort(1, descending=True)[:, :top_n]
    active = torch.tensor([[bool(set(own.tolist()) & set(row.tolist())) for own in sets] for row in top])
    found = together(images)
    assert active.any()
    assert top_n == 6 or not active.all()
    assert torch.allclose(found.double(), combine(general, said, sets, active), atol=1e-5)
    unknown = ~active.any(1)
    assert torch.allclose(found[unknown], general[unknown], atol=1e-5)
    assert (found.dtype, found.shape) == (torch.float32, (50, 6))


def test_gains_are_counted_by_the_specialists_that_know_the_correct_class() -> None:
    labels, sets = torch.tensor([0, 1, 1, 2, 3]), torch.tensor([[0, 1], [1, 2]])
    alone, together = torch.eye(4)[[1, 1, 0, 2, 0]], torch.eye(4)[[0, 2, 1, 2, 0]]
    assert covering(alone, together, labels, sets) == [
        {"specialists": 0, "n": 1, "generalist_errors": 1, "errors": 1},
        {"specialists": 1, "n": 2, "generalist_errors": 1, "errors": 0},
        {"specialists": 2, "n": 2, "generalist_errors": 1, "errors": 1},
    ]
    # within [0, 1]: samples 0, 1, 2; within [1, 2]: 1, 2, 3. Of equal logits the first is taken.
    assert conditional(alone, together, labels, sets) == {"n": 6, "generalist_accuracy": 4 / 6, "accuracy": 4 / 6}


# End to end, on three groups of four classes.

TINY = (
    "distill", "teacher=specialists", "dataset=confusable", "dataset.groups=3", "dataset.classes_each=4",
    "model@teacher.generalist.model=mlp_64", "teacher.generalist.model.widths=[8]", "teacher.generalist.train.epochs=2",
    "teacher.generalist.model.dropout=0", "teacher.train.epochs=2", "student.train.epochs=1",
)  # fmt: skip


def artifacts(result: dict[str, Any]) -> dict[str, str]:
    return {name: stage["artifact"] for name, stage in result["stages"].items()}


def cached(result: dict[str, Any]) -> set[str]:
    return {name for name, stage in result["stages"].items() if stage["cached"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("specialists")


@pytest.fixture(scope="module")
def first(folder: Path) -> dict[str, Any]:
    return inside(*TINY, cwd=folder).result


def test_a_run_says_what_the_specialists_gain(first: dict[str, Any], folder: Path) -> None:
    assert list(first["stages"]) == [
        "generalist", "specialist_1", "specialist_2", "specialist_3", "soft_targets", "student", "baseline",
    ]  # fmt: skip
    teacher, generalist = first["teacher"], first["teacher"]["generalist"]
    assert teacher["artifact"] is None
    assert set(generalist) == {"errors", "n", "accuracy", "nll"}
    assert sum(row["n"] for row in teacher["covering"]) == teacher["n"] == generalist["n"]
    for ours, theirs in (("errors", teacher), ("generalist_errors", generalist)):
        assert sum(row[ours] for row in teacher["covering"]) == theirs["errors"]
    assert [len(own) for own in teacher["sets"]] == [4, 4, 4]
    assert set(teacher["conditional"]) == {"n", "generalist_accuracy", "accuracy"}
    stored = folder / "outputs" / first["stages"]["specialist_1"]["artifact"] / "manifest.json"
    assert json.loads(stored.read_text())["identity"]["classes"] == [*teacher["sets"][0], "dustbin"]


def test_a_stored_specialist_is_corrected_for_what_it_saw_too_often(first: dict[str, Any], folder: Path) -> None:
    data = confusable(groups=3, classes_each=4)
    for number, own in enumerate(first["teacher"]["sets"], 1):
        known = torch.isin(data.train.labels, torch.tensor([data.classes.index(name) for name in own]))
        path = folder / "outputs" / first["stages"][f"specialist_{number}"]["artifact"] / "model.safetensors"
        expected = [0.0] * len(own) + [math.log(int((~known).sum()) / int(known.sum()))]
        assert load_file(path)["correction"].tolist() == pytest.approx(expected)
        assert expected[-1] > 0.1


def test_nothing_of_a_teacher_learns_any_more(first: dict[str, Any], folder: Path) -> None:
    taught: list[train_teacher.Teacher] = []
    obtain = train_teacher.obtain
    with mock.patch.object(train_teacher, "obtain", lambda *asked: taught.append(obtain(*asked)) or taught[0]):
        assert inside("train-teacher", *TINY[1:-1], cwd=folder).status == 0
    assert len(list(taught[0].network.parameters())) > 8
    assert not any(parameter.requires_grad for parameter in taught[0].network.parameters())


def test_a_second_run_finds_everything(first: dict[str, Any], folder: Path) -> None:
    done = inside(*TINY, cwd=folder)
    again = done.result
    assert "test errors by the number of specialists that know" in done.err
    assert artifacts(again) == artifacts(first)
    assert cached(again) == set(again["stages"])
    assert again["teacher"]["covering"] == first["teacher"]["covering"]
    assert "Nothing to remove" in inside("clean", cwd=folder).err


TRAINED = {"generalist", "specialist_1", "specialist_2", "specialist_3", "baseline"}


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("teacher.top_n=3", TRAINED),
        ("teacher.train.epochs=3", {"generalist", "baseline"}),
        ("teacher.seed=1", {"generalist", "baseline"}),
        ("teacher.classes_each=5", {"generalist", "baseline"}),
        ("temperature=2", TRAINED | {"soft_targets"}),
    ],
)
def test_a_key_makes_anew_what_depends_on_it(first: dict[str, Any], folder: Path, word: str, kept: set[str]) -> None:
    assert cached(inside(*TINY, word, cwd=folder).result) == kept


def test_with_another_start_it_is_another_specialist_of_the_same_classes(tmp_path: Path) -> None:
    groups = ("dataset.groups=2", "dataset.classes_each=3", "teacher.specialists=2", "teacher.classes_each=3")
    sure = ("teacher.generalist.model.widths=[64]", "teacher.generalist.train.epochs=12", "teacher.train.epochs=1")
    one, other = (
        inside("train-teacher", *TINY[1:3], *groups, *sure, f"teacher.generalist.seed={seed}", cwd=tmp_path).result
        for seed in (0, 1)
    )
    assert one["teacher"]["sets"] == other["teacher"]["sets"] == [["0-0", "0-1", "0-2"], ["1-0", "1-1", "1-2"]]
    for name in ("specialist_1", "specialist_2"):
        assert one["stages"][name]["artifact"] != other["stages"][name]["artifact"]


def test_the_generalist_is_the_artifact_of_a_teacher_alone(first: dict[str, Any], folder: Path) -> None:
    words = [word.replace("teacher.generalist", "teacher") for word in TINY if word != "teacher=specialists"]
    words = [word for word in words[1:-1] if word != "teacher.train.epochs=2"]
    done = inside("train-teacher", *words, "teacher.train.epochs=2", cwd=folder).result
    assert done["stages"]["teacher"] == {**done["stages"]["teacher"], "cached": True} | {
        "artifact": first["stages"]["generalist"]["artifact"]
    }


def test_a_stored_generalist_gets_specialists_too(first: dict[str, Any], folder: Path) -> None:
    path = f"outputs/{first['stages']['generalist']['artifact']}"
    words = (*TINY[:5], "teacher@teacher.generalist=artifact", f"teacher.generalist.path={path}", *TINY[-2:])
    done = inside(*words, "baseline=false", cwd=folder).result
    assert done["teacher"]["generalist"] == first["teacher"]["generalist"]
    assert done["teacher"]["sets"] == first["teacher"]["sets"]


def test_an_online_teacher_is_asked_in_every_step(first: dict[str, Any], folder: Path) -> None:
    done = inside(*TINY, "teacher.online=true", "baseline=false", cwd=folder).result
    assert cached(done) == TRAINED - {"baseline"}
    assert "soft_targets" not in done["stages"]


GROUPS = ("teacher=specialists", *TINY[2:5])


@pytest.mark.parametrize(
    ("word", "refusal"),
    [
        ("teacher.specialists=0", "teacher.specialists must be a whole number ≥ 1, got 0."),
        ("teacher.specialists=13", "teacher.specialists must be at most 12, the number of classes, got 13."),
        ("teacher.classes_each=x", "teacher.classes_each must be a whole number ≥ 1, got 'x'."),
        (
            "teacher.classes_each=11",
            "teacher.classes_each must be at most 10, the number of classes less a dustbin of two, got 11.",
        ),
        ("teacher.top_n=1.5", "teacher.top_n must be a whole number ≥ 1, got 1.5."),
        ("teacher.top_n=13", "teacher.top_n must be at most 12, the number of classes, got 13."),
        ("teacher.train.epochs=0", "teacher.train.epochs must be a whole number ≥ 1, got 0."),
        ("teacher.generalist.train.epochs=0", "teacher.generalist.train.epochs must be a whole number ≥ 1, got 0."),
        (
            "teacher.train.select=best_validation",
            "teacher.train.select must be last where there is no validation split, got 'best_validation'. "
            "Set dataset.validation=0.1.",
        ),
        (
            "teacher@teacher.generalist=specialists",
            "teacher.generalist must be a single network, got 'Specialists'. "
            "To choose one, write teacher.generalist=mlp_1200.",
        ),
        (
            "teacher.generalist.model=cnn",
            "teacher.generalist.model must be a mapping, got 'cnn'. To choose a file of configs/model/, write "
            "model@teacher.generalist.model=cnn.",
        ),
        (
            "augment@teacher.augment=mixup",
            "teacher.augment must be without mixtures for specialists, got 'Mixup'. "
            "Half of a specialist's images are to be of its own classes, and partners come from all.",
        ),
        ("dataset.groups=1", "dataset.groups must be a whole number ≥ 2, got 1."),
    ],
)
def test_a_wrong_input_is_refused_and_leaves_nothing(word: str, refusal: str, tmp_path: Path) -> None:
    done = inside("distill", *GROUPS, word, cwd=tmp_path)
    assert (done.status, done.err.strip().splitlines()[-1]) == (1, refusal)
    assert list(tmp_path.iterdir()) == []


def test_the_made_up_task_is_the_same_every_time_and_its_groups_are_plain() -> None:
    from kd_cli.datasets.confusable import confusable

    data, again = confusable(), confusable(seed=3)
    assert data.fingerprint == again.fingerprint
    assert (len(data.train), len(data.test), len(data.classes)) == (20_000, 5_000, 100)
    pixels = [split.images.pixels.flatten(1).double() for split in (data.train, data.test)]  # type: ignore[attr-defined]
    means = torch.stack([pixels[0][data.train.labels == k].mean(0) for k in range(100)])
    found = torch.cdist(pixels[1], means).argmin(1)
    assert (found // 10 == data.test.labels // 10).double().mean() > 0.97
    assert (found != data.test.labels).double().mean() > 0.05
