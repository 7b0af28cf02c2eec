"""What is set apart of the training split, by class, by group, and with the copies of a file."""

from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from kd_cli.data.apart import Apart
from kd_cli.data.grouping import held_out, linked
from kd_cli.data.resident import Resident
from kd_cli.data.samples import Split
from kd_cli.data.splits import carve, whole
from kd_cli.errors import ConfigError, DataError

CLASSES = ["a", "b"]


class Named(Resident):
    """Images whose files have these names and bytes."""

    def __init__(self, names: Sequence[str], sha: Sequence[str]) -> None:
        super().__init__(torch.zeros(len(names), 1, 2, 2, dtype=torch.uint8))
        self.names, self.sha = list(names), list(sha)

    def select(self, positions: torch.Tensor) -> "Named":
        chosen = positions.tolist()
        return Named([self.names[k] for k in chosen], [self.sha[k] for k in chosen])


def split_of(names: Sequence[str], labels: Sequence[int], sha: Sequence[str] | None = None) -> Split:
    return whole(Named(names, sha or names), torch.tensor(labels))


def names(split: Split) -> list[str]:
    return split.samples.names


POOL = [f"s{k % 10}/{k}.png" for k in range(100)]
LABELS = [k % 2 if k < 80 else 0 for k in range(100)]  # 60 of one class, 40 of the other


def test_a_fifth_is_set_apart_for_testing_and_every_class_has_its_share():
    made, remarks = Apart(validation=0.1).split({"train": split_of(POOL, LABELS)}, CLASSES)
    assert {part: Counter(split.labels.tolist()) for part, split in made.items()} == {
        "train": {0: 42, 1: 28}, "test": {0: 12, 1: 8}, "validation": {0: 6, 1: 4},
    }  # fmt: skip
    assert sorted(name for split in made.values() for name in names(split)) == sorted(POOL)
    assert remarks == ["test and validation set apart by seed 0"]
    again, _ = Apart(validation=0.1).split({"train": split_of(POOL, LABELS)}, CLASSES)
    other, _ = Apart(validation=0.1, seed=1).split({"train": split_of(POOL, LABELS)}, CLASSES)
    assert names(again["test"]) == names(made["test"]) != names(other["test"])


def test_validation_beside_a_test_split_is_what_it_was():
    pool, test = split_of(POOL, LABELS), split_of(["x.png"], [0])
    made, _ = Apart(validation=0.1, seed=3).split({"train": pool, "test": test}, CLASSES)
    rest, held = carve(pool, 0.1, 3)
    assert held is not None
    assert (names(made["train"]), names(made["validation"])) == (names(rest), names(held))
    assert made["validation"].index.tolist() == held.index.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_a_group_lies_in_one_split(seed):
    apart = Apart(0.2, 0.2, seed, group=r"^(s\d+)/")
    made, _ = apart.split({"train": split_of(POOL, LABELS)}, CLASSES)
    groups = [{name.split("/")[0] for name in names(split)} for split in made.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10
    assert sorted(map(len, made.values())) == [20, 20, 60]


def test_groups_are_taken_so_that_classes_come_near_their_shares():
    labels = torch.tensor([k % 3 for k in range(3000)])
    groups = [k // 7 for k in range(3000)]
    chosen = held_out(labels, groups, 600, 0)
    counts = Counter(labels[chosen].tolist())
    assert all(abs(counts[k] - 200) <= 7 for k in range(3))
    assert {groups[k] for k in chosen.tolist()}.isdisjoint(groups[k] for k in set(range(3000)) - set(chosen.tolist()))


def test_groups_that_share_a_sample_are_one():
    assert linked(["a", "b", "c", "b", "d"], ["1", "2", "1", "3", "3"]) == [0, 1, 0, 1, 1]


def test_copies_stay_together():
    sha = [f"{k // 2}" for k in range(100)]
    made, _ = Apart(0.3, 0.2).split({"train": split_of(POOL, LABELS, sha)}, CLASSES)
    held = [set(split.samples.sha) for split in made.values()]
    assert sum(map(len, held)) == len(set.union(*held)) == 50


def test_a_group_in_two_splits_is_refused():
    parts = {"train": split_of(["s1/a", "s2/b"], [0, 1]), "test": split_of(["s2/c"], [0])}
    with pytest.raises(DataError) as refusal:
        Apart(group="(s.)").split(parts, CLASSES)
    assert str(refusal.value) == (
        "dataset.group must be one whose groups lie in one split each, got '(s.)'. In train and test are: s2. "
        "Move them, or leave out dataset.group."
    )


@pytest.mark.parametrize(
    ("apart", "said"),
    [
        (Apart(1.5), "dataset.test must be a fraction below 1, or a count below 4 (the size of the training split), "),
        (Apart(4), "dataset.test must be a fraction below 1, or a count below 4 (the size of the training split), "),
        (Apart(0.01), "dataset.test must be a fraction below 1, or a count below 4 (the size of the training split), "),
        (Apart(3), "dataset.test must be small enough to leave every class an image, got 3. Left empty: "),
        (Apart(0.25, group="(.)"), "dataset.test must be a share that some of the 1 groups of files amount to, got "),
    ],
)
def test_a_share_that_cannot_be_set_apart_is_refused(apart, said):
    with pytest.raises(ConfigError) as refusal:
        apart.split({"train": split_of(["x1", "x2", "x3", "x4"], [0, 0, 1, 1])}, CLASSES)
    assert str(refusal.value).startswith(said)


def test_a_share_of_what_is_there_already_is_told(caplog):
    parts = {"train": split_of(["1", "2"], [0, 1]), "test": split_of(["3"], [0])}
    made, _ = Apart(0.5).split(parts, CLASSES)
    assert names(made["test"]) == ["3"]
    assert "dataset.test=0.5 is not used: there is a test split already" in caplog.text


# --- the same bytes twice


def twice() -> dict[str, Split]:
    return {
        "train": split_of(["tr1", "tr2", "tr3", "tr4"], [0, 1, 0, 1], ["A", "B", "C", "D"]),
        "validation": split_of(["va1", "va2"], [0, 1], ["E", "B"]),
        "transfer": split_of(["un1", "un2"], [-1, -1], ["A", "C"]),
        "test": split_of(["te1", "te2"], [0, 0], ["C", "F"]),
    }


def test_copies_across_splits_are_refused_and_listed():
    with pytest.raises(DataError) as refusal:
        Apart().split(twice(), CLASSES)
    assert str(refusal.value) == (
        "1 file(s) of the train split lie in the test split too:\n  tr3 = te1\n "
        "Remove them, or leave them out of train: dataset.duplicates=drop. With dataset.duplicates=allow they stay."
    )


def test_copies_may_be_left_out_where_something_is_learnt(caplog):
    made, remarks = Apart(duplicates="drop").split(twice(), CLASSES)
    assert {part: names(split) for part, split in made.items()} == {
        "train": ["tr1", "tr4"], "validation": ["va1", "va2"], "transfer": ["un1"], "test": ["te1", "te2"],
    }  # fmt: skip
    assert remarks[0] == "1 file(s) of the train split lie in the test split too, and are left out"
    assert "too, and are left out: tr2 = va2" in caplog.text


def test_copies_may_be_allowed_and_are_told(caplog):
    parts = twice()
    made, remarks = Apart(duplicates="allow").split(parts, CLASSES)
    assert {part: len(split) for part, split in made.items()} == {part: len(split) for part, split in parts.items()}
    assert len(remarks) == 3
    assert "1 file(s) of the transfer split lie in the test split too: un2 = te1" in caplog.text


def test_a_class_that_lies_in_the_test_split_alone_cannot_be_dropped():
    parts = {"train": split_of(["1", "2"], [0, 1], ["A", "B"]), "test": split_of(["3"], [1], ["B"])}
    with pytest.raises(ConfigError, match=r"^dataset\.duplicates must be allow where .*, got 'drop'\. b\.$"):
        Apart(duplicates="drop").split(parts, CLASSES)


def test_the_same_bytes_under_two_labels_are_told(caplog):
    parts = {"train": split_of(["a/1", "b/2", "a/3"], [0, 1, 0], ["A", "A", "A"]), "test": split_of(["4"], [0], ["B"])}
    _, remarks = Apart().split(parts, CLASSES)
    assert remarks == ["1 with the same bytes as one of another class"]
    assert "1 file(s) lie under two labels: b/2 (b) = a/1 (a)" in caplog.text
