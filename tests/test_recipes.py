"""Accumulation, class weights, early stopping, the plateau schedule, and going on from what is stored."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from running import TINY, Outcome, inside
from torch import Tensor, nn
from torch.nn import functional as F
from watching import Seen

from kd_cli.data.augment import Shift
from kd_cli.data.mixing import Mixup
from kd_cli.data.samples import UNLABELLED, Batch, Split
from kd_cli.data.splits import with_labels
from kd_cli.device import find_device
from kd_cli.errors import ConfigError
from kd_cli.models.mlp import mlp
from kd_cli.objectives.cross_entropy import CrossEntropy, hard_loss
from kd_cli.objectives.hinton import Hinton
from kd_cli.store.history import HISTORY
from kd_cli.train.accumulation import parts_of
from kd_cli.train.batches import Batches
from kd_cli.train.checkpoint import Checkpoint
from kd_cli.train.class_weights import class_weights
from kd_cli.train.fit import fit
from kd_cli.train.patience import exhausted
from kd_cli.train.plateau import Plateau
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import constant, cosine

CPU = torch.device("cpu")


def net() -> nn.Module:
    torch.manual_seed(0)
    return mlp(10, (1, 8, 8), widths=[24])


def answers(positions: Tensor, view: int, images: Tensor) -> Tensor:
    return 8 * torch.sin(positions[:, None] * torch.arange(1.0, 11.0) + view)


def history(
    model: nn.Module, batches: Batches, rule: Recipe, validation: Split | None = None
) -> list[dict[str, float]]:
    records: list[dict[str, float]] = []
    objective = CrossEntropy() if batches.targets is None else Hinton(4.0, 0.5, 0.5)
    fit(model, batches, objective, rule, validation, watch=Seen(epoch=records.append))
    for record in records:
        del record["images_per_second"]
    return records


# --- accumulation


@pytest.mark.parametrize(
    "changes",
    [{}, {"clip": 0.3}, {"max_norm": 0.4, "clip": 1.0}, {"scheduler": cosine}],
    ids=["plain", "clip", "bounds", "cosine"],
)
@pytest.mark.parametrize("labels", ["all", 0.3])
@pytest.mark.parametrize("weights", [None, torch.arange(10.0)])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(few, recipe, changes, labels, weights) -> None:
    """150 = 4 × 32 + 22 images: parts of 8 and, in the last batch, of 6 and 5."""
    done = []
    for parts in (1, 4):
        model = net()
        batches = Batches(with_labels(few, labels, 0), 32, 5, CPU, targets=answers, class_weights=weights)
        done.append((model, history(model, batches, recipe(accumulate=parts, **changes))))
    (whole, expected), (cut, records) = done
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for record, wanted in zip(records, expected, strict=True):
        assert record == pytest.approx(wanted, rel=1e-4)


def test_mixtures_are_cut_with_their_partners(few, recipe) -> None:
    done = []
    for parts in (1, 3):
        model = net()
        history(model, Batches(with_labels(few, 0.5, 0), 32, 5, CPU, Mixup(0.4), 1), recipe(accumulate=parts))
        done.append(nn.utils.parameters_to_vector(model.parameters()))
    torch.testing.assert_close(*done, rtol=1e-4, atol=1e-5)


def test_float16_is_scaled_once_a_step(few, recipe) -> None:
    """The scale grows and falls with steps, not with parts: both end alike, to float16's precision."""
    done = []
    for parts in (1, 4):
        model = net()
        history(model, Batches(few, 32, 5, CPU), recipe(accumulate=parts, precision="16-mixed", clip=1.0))
        done.append(nn.utils.parameters_to_vector(model.parameters()))
    torch.testing.assert_close(*done, rtol=0.02, atol=0.005)


def test_one_part_is_the_batch_itself(few, recipe) -> None:
    done = []
    for changes in ({}, {"accumulate": 1}):
        model = net()
        history(model, Batches(few, 32, 5, CPU), recipe(**changes))
        done.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*done)


@pytest.mark.parametrize(("n", "parts", "sizes"), [(5, 4, [3, 2]), (32, 3, [11, 11, 10]), (1, 4, [1]), (8, 4, [2] * 4)])
def test_no_part_is_a_single_sample(n: int, parts: int, sizes: list[int]) -> None:
    cut = parts_of(Batch(torch.zeros(n, 1), torch.zeros(n, dtype=torch.int64)), parts)
    assert [len(part.images) for part, _ in cut] == sizes
    assert sum(share for _, share in cut) == pytest.approx(1)


@pytest.mark.parametrize("value", [0, -1, 17, 2.0, True, None])
def test_parts_that_cannot_be_are_refused(recipe, value) -> None:
    with pytest.raises(ConfigError, match=r"^train\.accumulate must be a whole number from 1 to 16 with batches of 32"):
        recipe(accumulate=value)


# --- class weights


def test_the_hard_term_is_torchs_weighted_mean() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(20, 4), torch.arange(20) % 4, torch.tensor([1.0, 2.0, 0.5, 0.0])
    labels[:3] = UNLABELLED
    expected = F.cross_entropy(logits, labels, weights, ignore_index=UNLABELLED)
    torch.testing.assert_close(hard_loss(logits, Batch(torch.zeros(20), labels, class_weights=weights)), expected)


def test_in_a_mixture_each_label_weighs_what_its_class_does() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(8, 4), torch.arange(8) % 4, torch.tensor([1.0, 2.0, 0.5, 3.0])
    partners, share = labels.roll(1), torch.rand(8)
    batch = Batch(torch.zeros(8), labels, None, partners, share, weights)
    losses = -logits.log_softmax(1)
    mass = [(share * weights[labels], labels), ((1 - share) * weights[partners], partners)]
    expected = sum((m * losses[torch.arange(8), own]).sum() for m, own in mass) / sum(m.sum() for m, _ in mass)
    torch.testing.assert_close(hard_loss(logits, batch), expected)


def test_without_labels_the_hard_term_is_zero() -> None:
    batch = Batch(torch.zeros(3), torch.full((3,), UNLABELLED), class_weights=torch.ones(4))
    assert hard_loss(torch.randn(3, 4), batch) == 0


def test_balanced_weights_make_the_classes_there_are_weigh_alike(few) -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [3] + [UNLABELLED] * 2)
    split = few.select(torch.arange(12)).with_labels(labels)
    weights = class_weights("balanced", split, ("a", "b", "c", "d"))
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 0.0, 10 / 3]))
    assert class_weights("balanced", with_labels(split, "none", 0), ("a", "b", "c", "d")) is None
    assert class_weights(None, split, ("a",)) is None


def test_weights_are_given_by_place_or_by_name(few) -> None:
    classes = ("cat", "dog", "3")
    assert class_weights([1, 2, 0.5], few, classes).tolist() == [1, 2, 0.5]
    assert class_weights({"dog": 2, 3: 4}, few, classes).tolist() == [1, 2, 4]
    with pytest.raises(
        ConfigError, match=r"must be a list of 3 numbers, one for each class \(cat, dog, 3\), got \[1\]"
    ):
        class_weights([1], few, classes)
    with pytest.raises(ConfigError, match=r"Did you mean 'dog'\?"):
        class_weights({"dig": 2}, few, classes)


@pytest.mark.parametrize("value", ["balance", [1, -1], [0, 0], {"a": "x"}, 3, [float("nan")], [True], ["1"]])
def test_weights_that_no_data_could_have_are_refused(recipe, value) -> None:
    with pytest.raises(ConfigError, match=r"^train\.class_weights must be"):
        recipe(class_weights=value)


# --- early stopping and the plateau


def flat(accuracies: list[float]) -> list[dict[str, float]]:
    return [{"validation_accuracy": accuracy} for accuracy in accuracies]


@pytest.mark.parametrize(
    ("accuracies", "ends"),
    [([], False), ([0.5], False), ([0.5, 0.6, 0.6], False), ([0.5, 0.6, 0.6, 0.59], True), ([0.6, 0.5, 0.7], False)],
)
def test_patience_ends_with_the_epochs_that_gained_nothing(accuracies, ends) -> None:
    assert exhausted(flat(accuracies), 2) is ends
    assert not exhausted(flat(accuracies), None)


def contrary(split: Split) -> Split:
    """What is learnt is wrong here, the more the longer it is learnt."""
    return split.with_labels((split.labels + 1) % 10)


@pytest.mark.parametrize("select", ["last", "best_validation"])
def test_a_training_ends_early_and_keeps_what_select_says(few, recipe, select) -> None:
    model = net()
    batches, rule = Batches(few, 32, 0, CPU), recipe(epochs=30, patience=3, select=select)
    records = history(model, batches, rule, contrary(few))
    best = max(range(len(records)), key=lambda k: records[k]["validation_accuracy"])
    assert len(records) == best + 4 < 30
    other = net()
    kept = recipe(epochs=len(records) if select == "last" else best + 1)
    history(other, Batches(few, 32, 0, CPU), kept, contrary(few))
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)


def test_a_plateau_lowers_the_learning_rate_when_nothing_is_gained(few, recipe) -> None:
    def plateau(*a: Any) -> Plateau:
        return Plateau(*a, watch="validation", factor=0.5, patience=1)

    records = history(net(), Batches(few, 32, 0, CPU), recipe(epochs=10, scheduler=plateau), contrary(few))
    rates = [record["lr"] for record in records]
    assert rates[0] == 0.1
    assert rates[-1] < 0.1
    assert {round(before / after, 6) for before, after in pairwise(rates)} == {1, 2}


def test_a_plateau_of_the_training_loss_needs_no_validation(few, recipe) -> None:
    def plateau(*a: Any) -> Plateau:
        return Plateau(*a, watch="loss", factor=0.1, patience=0, threshold=0.9)

    records = history(net(), Batches(few, 32, 0, CPU), recipe(epochs=3, scheduler=plateau))
    assert [record["lr"] for record in records] == pytest.approx([0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"patience": 3}, "patience must be null"),
        ({"scheduler": Plateau}, "scheduler.watch must be loss"),
        ({"select": "best_validation"}, "select must be last"),
    ],
)
def test_what_looks_at_a_validation_split_wants_one(small_net, recipe, changes, key) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.{key} where there is no validation split, .* dataset\.validation"):
        recipe(**changes).check(small_net(), None)
    assert recipe(**changes).sees_validation
    assert not recipe().sees_validation


@pytest.mark.parametrize(
    ("key", "value"),
    [("watch", "train"), ("factor", 1), ("factor", 0), ("patience", -1), ("patience", 1.5), ("threshold", 1)],
)
def test_a_plateau_that_cannot_be_is_refused(small_net, recipe, key, value) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.scheduler\.{key} must be"):
        recipe(scheduler=lambda *a: Plateau(*a, **{key: value})).values()


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_patience_that_is_none_is_refused(recipe, value) -> None:
    with pytest.raises(ConfigError, match=r"^train\.patience must be a whole number of epochs ≥ 1 or null"):
        recipe(patience=value)


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [2, 5])
def test_broken_off_they_end_in_the_same_bits(tmp_path: Path, few, recipe, stop) -> None:
    """The schedule and the end depend on the epochs before the break."""

    def plateau(*a: Any) -> Plateau:
        return Plateau(*a, factor=0.5, patience=0)

    def train(folder: Path, breaks: bool) -> nn.Module:
        folder.mkdir(exist_ok=True)
        model, rule = net(), recipe(epochs=20, patience=4, scheduler=plateau, accumulate=2)

        def on_step(epoch: int, step: int) -> None:
            if breaks and (epoch, step) == (stop, 2):
                raise Stop

        with (folder / HISTORY).open("a", buffering=1) as lines:
            fit(
                model, Batches(few, 32, 5, CPU, Shift(1), 3), CrossEntropy(), rule, contrary(few),
                checkpoint=Checkpoint(folder, "student", 20, 1, None, {}),
                watch=Seen(on_step, lambda record: print(json.dumps(record), file=lines)),
            )  # fmt: skip
        return model

    undisturbed = train(tmp_path / "whole", breaks=False)
    ended = len((tmp_path / "whole" / HISTORY).read_text().splitlines())
    assert stop < ended < 20
    with pytest.raises(Stop):
        train(tmp_path / "broken", breaks=True)
    resumed = train(tmp_path / "broken", breaks=False)
    for one, other in zip(undisturbed.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert len((tmp_path / "broken" / HISTORY).read_text().splitlines()) == ended
    again = train(tmp_path / "whole", breaks=False)  # from the checkpoint of its end: nothing is left to do
    assert all(torch.equal(*pair) for pair in zip(again.parameters(), undisturbed.parameters(), strict=True))


# --- the command


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("recipes")
    return folder, inside("distill", *TINY, "dataset.validation=100", cwd=folder)


@pytest.fixture
def again(first: tuple[Path, Outcome]) -> Callable[..., Outcome]:
    return lambda *words: inside("distill", *TINY, "dataset.validation=100", *words, cwd=first[0])


def test_what_is_default_is_no_part_of_an_identity(first, again) -> None:
    words = ["accumulate=1", "patience=null", "class_weights=null", "batch_statistics=auto", "start_from=null"]
    typed = [f"{role}.train.{word}" for word in words for role in ("teacher", "student")]
    assert all(stage["cached"] for stage in again(*typed).result["stages"].values())
    identity = json.loads((first[0] / "outputs" / again().result["student"]["artifact"] / "manifest.json").read_text())
    assert not {word.partition("=")[0] for word in words} & set(identity["identity"]["train"]["config"])


def test_every_key_serves_teacher_student_and_baseline(first, again) -> None:
    keys = ["accumulate=2", "class_weights=balanced", "patience=1", "batch_statistics=recomputed"]
    typed = [f"{role}.train.{key}" for key in keys for role in ("teacher", "student")]
    plateau = [f"scheduler@{role}.train.scheduler=plateau" for role in ("teacher", "student")]
    done = again(*typed, *plateau)
    assert not any(stage["cached"] for stage in done.result["stages"].values())
    for role in ("teacher", "student", "baseline"):
        about = json.loads((first[0] / "outputs" / done.result[role]["artifact"] / "manifest.json").read_text())
        assert {"accumulate": 2, "class_weights": "balanced", "patience": 1}.items() <= about["identity"]["train"][
            "config"
        ].items()
        assert "validation" in about["identity"], "the validation split has a say in the weights"


def test_class_weights_of_other_classes_are_refused_before_any_work(again, first) -> None:
    before = sorted((first[0] / "outputs" / "runs").iterdir())
    for role in ("teacher", "student"):
        done = again(f"{role}.train.class_weights=[1,2]")
        assert done.status == 1
        assert done.err.startswith(f"{role}.train.class_weights must be a list of 10 numbers, one for each class"), (
            done.err
        )
    assert sorted((first[0] / "outputs" / "runs").iterdir()) == before


def test_a_run_is_gone_on_with_each_from_its_own(first, again) -> None:
    folder, outcome = first
    run = outcome.run
    done = again(f"student.train.start_from={run}", "student.train.epochs=1").result
    starts = {}
    for role in ("student", "baseline"):
        about = json.loads((folder / "outputs" / done[role]["artifact"] / "manifest.json").read_text())["identity"]
        starts[role] = about["train"]["config"]["start_from"]
        record = json.loads((folder / "outputs" / done[role]["artifact"] / "history.jsonl").read_text().splitlines()[0])
        ended = (folder / "outputs" / outcome.result[role]["artifact"] / "history.jsonl").read_text().splitlines()
        assert record["loss"] < json.loads(ended[0])["loss"], "it does not begin anew"
    assert starts["student"] != starts["baseline"]
    moved = folder / "elsewhere"
    moved.symlink_to(run)
    same = again(f"student.train.start_from={moved}", "student.train.epochs=1").result
    assert same["stages"]["student"]["cached"], "the weights count, and not where they lie"


def test_a_teacher_goes_on_from_a_stored_one(first, again) -> None:
    folder, outcome = first
    path = folder / "outputs" / outcome.result["teacher"]["artifact"]
    for start in (path, outcome.run):
        done = again(f"teacher.train.start_from={start}", "baseline=false").result
        assert done["teacher"]["artifact"] != outcome.result["teacher"]["artifact"]
        record = (folder / "outputs" / done["teacher"]["artifact"] / "history.jsonl").read_text().splitlines()[0]
        begun = (path / "history.jsonl").read_text().splitlines()[0]
        assert json.loads(record)["loss"] < json.loads(begun)["loss"] / 2, "it does not begin anew"


def test_a_baseline_does_not_start_from_what_a_teacher_taught(first, again) -> None:
    folder, outcome = first
    path = folder / "outputs" / outcome.result["student"]["artifact"]
    done = again(f"student.train.start_from={path}")
    assert done.status == 1
    assert done.err.startswith("student.train.start_from must be no distilled student where there is a baseline"), (
        done.err
    )
    assert again(f"student.train.start_from={path}", "baseline=false").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["student.train.start_from=nowhere"], "student.train.start_from must be the folder of a model that fits: "),
        (["teacher.train.start_from=nowhere"], "teacher.train.start_from must be the folder of a model that fits: "),
        (
            ["student.train.start_from=3"],
            "student.train.start_from must be the folder of a model that fits: 3 is not an artifact of kd",
        ),
    ],
)
def test_what_cannot_be_started_from_is_refused(again, words, said) -> None:
    done = again(*words)
    assert done.status == 1
    assert done.err.startswith(said), done.err


def test_weights_of_another_network_are_refused(first, again) -> None:
    path = first[0] / "outputs" / first[1].result["student"]["artifact"]
    done = again(f"student.train.start_from={path}", "student.model.widths=[9]", "baseline=false")
    assert done.err.startswith("student.train.start_from must be the folder of a model that fits: "), done.err


@pytest.mark.parametrize("key", ["class_weights=balanced", "start_from=nowhere"])
def test_specialists_have_their_own_start_and_shares(again, key) -> None:
    done = again("teacher=specialists", f"teacher.train.{key}")
    assert done.status == 1
    assert done.err.startswith(f"teacher.train.{key.partition('=')[0]} must be null for specialists"), done.err


# --- one of several GPUs


@pytest.mark.parametrize("device", ["cuda:1", "cuda:99"])
@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="it is there")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, device: str) -> None:
    done = inside("distill", f"device={device}", cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("device must be one that this machine has (auto, cpu"), done.err


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "cpu:0", "gpu"])
def test_a_device_that_is_none_is_refused(tmp_path: Path, device: str) -> None:
    done = inside("distill", f"device='{device}'", cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("device must be one of auto, cpu, cuda, mps, cuda:<number>"), done.err


def test_a_gpu_by_its_number_becomes_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without such a machine: what torch is told."""
    told: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", told.append)
    assert find_device("cuda:1") == torch.device("cuda")
    assert told == [1]
    with pytest.raises(ConfigError, match=r"auto, cpu, cuda:0, cuda:1"):
        find_device("cuda:2")


def test_constant_is_still_constant(few, recipe) -> None:
    assert {record["lr"] for record in history(net(), Batches(few, 32, 0, CPU), recipe(scheduler=constant))} == {0.1}
