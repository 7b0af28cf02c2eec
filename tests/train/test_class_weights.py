import pytest
import torch
from torch.nn import functional as F

from kd_cli.data.samples import UNLABELLED, Batch, Mixture
from kd_cli.data.splits import with_labels
from kd_cli.errors import ConfigError
from kd_cli.objectives.cross_entropy import hard_loss
from kd_cli.train.class_weights import class_weights


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
    batch = Batch(torch.zeros(8), labels, None, Mixture(partners, share), weights)
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
