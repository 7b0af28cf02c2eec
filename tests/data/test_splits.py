import pytest
import torch
from pixels import pixels_of

from kd_cli.data.resident import Resident
from kd_cli.data.samples import UNLABELLED, Split
from kd_cli.data.splits import carve, fraction_of, stratified, whole, with_labels, without_classes
from kd_cli.errors import ConfigError


def toy(labels: list[int]) -> Split:
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return whole(Resident(pixels), torch.tensor(labels))


# --- splits


@pytest.mark.parametrize("count", [1, 7, 50, 99])
def test_stratified_takes_every_class_in_its_share(count):
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)[torch.randperm(100)]
    chosen = stratified(labels, count, seed=0)
    assert len(chosen.unique()) == count
    assert torch.equal(chosen, chosen.sort().values)
    taken = labels[chosen].bincount(minlength=3)
    assert all(abs(int(taken[k]) - count * share) < 1 for k, share in enumerate((0.5, 0.3, 0.2)))


def test_stratified_follows_its_seed_alone():
    labels = torch.arange(100) % 5
    torch.manual_seed(1)
    first = stratified(labels, 20, seed=0)
    torch.manual_seed(2)
    assert torch.equal(first, stratified(labels, 20, seed=0))
    assert not torch.equal(first, stratified(labels, 20, seed=1))


@pytest.mark.parametrize(("validation", "count"), [(0.25, 10), (0.5, 20), (1, 1), (12, 12), (38, 38), (12.0, 12)])
def test_carve_sets_a_fraction_or_a_count_apart(validation, count):
    split = toy([0, 1] * 20)
    rest, held_out = carve(split, validation, seed=0)
    assert (len(rest), len(held_out)) == (40 - count, count)
    assert torch.equal(torch.cat([rest.index, held_out.index]).sort().values, split.index)
    for part in (rest, held_out):  # labels and pixels stay with their sample
        assert torch.equal(part.labels, split.labels[part.index])
        assert torch.equal(pixels_of(part)[:, 0, 0, 0].long(), part.index)


def test_carve_of_nothing_leaves_the_split_as_it_is():
    split = toy([0, 1, 0, 1])
    assert carve(split, 0, seed=0) == (split, None)


@pytest.mark.parametrize("validation", [40, 41, -1, 1.5, -0.1, True, "0.1", None, float("nan"), float("inf")])
def test_carve_refuses_what_cannot_be_set_apart(validation):
    with pytest.raises(ConfigError) as refusal:
        carve(toy([0, 1] * 20), validation, seed=0)
    shown = validation if isinstance(validation, float | int) and validation is not True else repr(validation)
    assert str(refusal.value) == (
        "dataset.validation must be a fraction below 1, a count below 40 (the size of the training split), or 0, "
        f"got {shown}."
    )


@pytest.mark.parametrize(
    ("labels", "validation", "count"),
    [
        ([0, 1, 2], 0.6, 2),
        ([0, 1, 2], 1, 1),
        ([0, 0, 0, 1, 1, 1, 2], 6, 6),
        ([0] * 50 + [1] * 50 + [2], 0.99, 100),
        ([0] * 97 + [1] * 3, 0.9, 90),
        ([0, 1] * 20, 39, 39),
    ],
)
def test_carve_refuses_to_take_the_only_images_of_a_class(labels, validation, count):
    taken = stratified(torch.tensor(labels), count, seed=0).tolist()
    left = [label for k, label in enumerate(labels) if k not in taken]
    names = ", ".join(name for label, name in enumerate(["cat", "dog", "fox"]) if label in labels and label not in left)
    with pytest.raises(ConfigError) as refusal:
        carve(toy(labels), validation, seed=0, classes=["cat", "dog", "fox"])
    assert str(refusal.value) == (
        f"dataset.validation must be small enough to leave every class an image, got {validation}. Left empty: {names}."
    )


def test_a_data_set_set_apart_keeps_every_class_or_is_refused():
    for count in range(1, 12):
        split = toy([0] * 6 + [1] * 4 + [2] * 2)
        try:
            rest, held_out = carve(split, count, seed=0)
        except ConfigError:
            assert count > 6, "half of each class can always be spared"
            continue
        assert set(rest.labels.tolist()) == {0, 1, 2}
        assert len(held_out) == count


@pytest.mark.parametrize(
    ("labels", "fraction", "left"),
    [([0] * 60 + [1] * 40, 0.001, "dog"), ([0] * 97 + [1] * 3, 0.1, "dog"), ([0, 1, 1, UNLABELLED], 0.3, "cat")],
)
def test_labels_too_few_for_every_class_are_refused(labels, fraction, left):
    with pytest.raises(ConfigError) as refusal:
        with_labels(toy(labels), fraction, 0, ["cat", "dog"])
    assert str(refusal.value) == (
        f"transfer.labels must be large enough for a label of every class, got {fraction}. Left empty: {left}."
    )


def test_with_labels_all_and_none():
    split = toy([0, 1] * 10)
    assert with_labels(split, "all", 0) is split
    bare = with_labels(split, "none", 0)
    assert (bare.labels == UNLABELLED).all()
    assert bare.labelled == 0
    assert bare.samples is split.samples
    assert torch.equal(bare.index, split.index)


def test_with_labels_of_a_fraction_keeps_that_share_of_each_class():
    split = toy([0] * 60 + [1] * 40)
    partial = with_labels(split, 0.1, seed=0)
    known = partial.labels != UNLABELLED
    assert partial.labelled == int(known.sum()) == 10
    assert torch.equal(partial.labels[known], split.labels[known])
    assert partial.labels[known].bincount().tolist() == [6, 4]
    assert torch.equal(partial.labels, with_labels(split, 0.1, seed=0).labels)
    assert not torch.equal(partial.labels, with_labels(split, 0.1, seed=1).labels)


def test_with_labels_of_a_partly_labelled_set_takes_its_share_of_the_known_ones():
    split = toy([0, 1, UNLABELLED, UNLABELLED] * 10)
    partial = with_labels(split, 0.5, seed=0)
    assert partial.labelled == 10
    assert (partial.labels[split.labels == UNLABELLED] == UNLABELLED).all()


@pytest.mark.parametrize("labels", ["some", 0, 1, 1.5, -0.5, True, None, float("nan")])
def test_with_labels_refuses_other_values(labels):
    with pytest.raises(ConfigError, match=r"^transfer\.labels must be all, none or a fraction between 0 and 1, got "):
        with_labels(toy([0, 1]), labels, 0)


def test_with_labels_refuses_a_fraction_of_no_labels():
    with pytest.raises(ConfigError, match=r"^transfer\.labels must be none for a transfer set that holds no labels"):
        with_labels(toy([UNLABELLED, UNLABELLED]), 0.5, 0)


# A part of the transfer set.


def numbered(labels: list[int]) -> Split:
    return whole(Resident(torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)), torch.tensor(labels))


@pytest.mark.parametrize(
    ("wanted", "omit", "kept"),
    [([1], True, [0, 2, 3]), (["dog"], True, [0, 2, 3]), ([0, "fox"], False, [0, 2, 3]), ([2], False, [3])],
)
def test_classes_are_left_out_by_name_or_number(wanted, omit, kept) -> None:
    part = without_classes(numbered([0, 1, 0, 2, 1]), "transfer.omit_classes", wanted, ["cat", "dog", "fox"], omit)
    assert part.index.tolist() == kept


def test_names_come_before_numbers() -> None:
    part = without_classes(numbered([0, 1]), "transfer.omit_classes", [1], ["1", "0"], True)
    assert part.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("labels", "wanted", "message"),
    [
        ([0, 1], ["bee"], "must be a list of classes (cat, dog, fox) or their numbers, got 'bee'."),
        ([0, 1], [3], "must be a list of classes (cat, dog, fox) or their numbers, got 3."),
        ([0, 1], [0, 1], "must be a list that leaves some samples in the transfer set, got [0, 1]."),
        ([0, -1], [0], "must be null for a transfer set with unlabelled samples, whose classes nobody knows, got [0]."),
    ],
)
def test_a_choice_of_classes_that_makes_no_sense_is_refused(labels, wanted, message) -> None:
    with pytest.raises(ConfigError) as refusal:
        without_classes(numbered(labels), "transfer.omit_classes", wanted, ["cat", "dog", "fox"], True)
    assert str(refusal.value) == f"transfer.omit_classes {message}"


def test_a_fraction_is_stratified_and_follows_from_the_seed() -> None:
    split = numbered([0] * 60 + [1] * 30 + [UNLABELLED] * 10)
    part = fraction_of(split, 0.1, 3, ["a", "b"])
    assert part.labels.tolist() == [0] * 6 + [1] * 3 + [UNLABELLED]
    assert torch.equal(part.index, fraction_of(split, 0.1, 3, ["a", "b"]).index)
    assert not torch.equal(part.index, fraction_of(split, 0.1, 4, ["a", "b"]).index)
    assert fraction_of(split, 1, 3, ["a", "b"]) is split


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (0, "must be > 0 and ≤ 1, got 0."),
        (1.5, "must be > 0 and ≤ 1, got 1.5."),
        (True, "must be > 0 and ≤ 1, got True."),
        (0.05, "must be large enough for a sample of every class, got 0.05. Left empty: b."),
        (1e-6, "must be large enough for a sample of every class, got 1e-06. Left empty: a, b."),
    ],
)
def test_a_fraction_that_leaves_a_class_empty_is_refused(fraction, message) -> None:
    with pytest.raises(ConfigError) as refusal:
        fraction_of(numbered([0] * 95 + [1] * 5), fraction, 0, ["a", "b"])
    assert str(refusal.value) == f"transfer.fraction {message}"


def test_a_fraction_of_unlabelled_samples_that_leaves_none_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        fraction_of(numbered([UNLABELLED] * 10), 0.01, 0, ["a", "b"])
    assert str(refusal.value) == "transfer.fraction must be large enough for a sample, got 0.01."
