"""What a teacher told, understood by looking at it, as logits."""

import math

import pytest
import torch
from torch import Tensor

from kd_cli.targets.top_k import compress
from kd_cli.teachers.told import as_row, look, numbers_of, parse

CLASSES = ("cat", "dog", "owl")
NUMBERS = numbers_of(CLASSES)
NAN = math.nan


def random_logits(n: int = 40, classes: int = 6) -> Tensor:
    return torch.randn(n, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1, 2.5, -3], {0: 1.0, 1: 2.5, 2: -3.0}),
        ("[1, 2, 3]", {0: 1.0, 1: 2.0, 2: 3.0}),
        ([[1, 2, 3]], {0: 1.0, 1: 2.0, 2: 3.0}),
        ({"owl": 0.5, "cat": 0.25}, {2: 0.5, 0: 0.25}),
        ([{"label": "dog", "score": 0.75}], {1: 0.75}),
        ([{"class": "dog", "logprob": -1}, {"class": "owl", "logprob": -2}], {1: -1.0, 2: -2.0}),
        ([["owl", 0.5]], {2: 0.5}),
        ("owl", 2),
        (1, 1),
        (1.0, 1),
        ("2", 2),
    ],
)
def test_an_answer_is_read_in_the_forms_that_people_have(value: object, told: object) -> None:
    assert parse(value, NUMBERS) == told


def test_a_number_is_the_name_of_a_class_first() -> None:
    assert parse("2", numbers_of(["2", "1", "0"])) == 0


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([1, 2], "2 numbers for 3 classes"),
        ("bat", "'bat' is no class"),
        (3, "3 is no class"),
        ({"cat": "much"}, "'much' is no number"),
        ({"cat": float("nan")}, "nan is no number"),
        ([["cat", 1], ["cat", 2]], "stands there twice"),
        ({}, "no class is named"),
        (None, "None is no answer"),
        (True, "True is no answer"),
        ([{"score": 1}], "names no class with a number"),
    ],
)
def test_what_is_no_answer_is_said(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(value, NUMBERS)


@pytest.mark.parametrize("outputs", ["logits", "probabilities", "log_probabilities"])
def test_what_the_numbers_are_is_found_out_and_gives_the_same_distribution(outputs: str) -> None:
    logits = random_logits()
    told = {"logits": logits, "probabilities": logits.softmax(1), "log_probabilities": logits.log_softmax(1)}[outputs]
    form = look(told, None, False)
    assert (form.outputs, form.top_k, form.decimals) == (outputs, None, None)
    torch.testing.assert_close(form.to_logits(told).softmax(1), logits.softmax(1).float())


def test_what_a_person_says_the_numbers_are_comes_first() -> None:
    told = random_logits().softmax(1)
    assert look(told, "logits", False).outputs == "logits"
    with pytest.raises(ValueError, match="between 0 and 1"):
        look(random_logits(), "probabilities", False)


def test_rounded_probabilities_are_declared_with_what_is_lost() -> None:
    exact = random_logits().softmax(1)
    rounded = (exact * 100).round() / 100
    form = look(rounded, None, False)
    assert (form.outputs, form.decimals) == ("probabilities", 2)
    assert form.zeros == float((rounded == 0).double().mean()) > 0.1
    assert "rounded to 2 decimals" in str(form)
    assert f"{form.zeros:.0%} of them 0" in str(form)
    read = form.to_logits(rounded).softmax(1)
    assert float((read - rounded).abs().max()) < 0.02
    assert bool(read.isfinite().all())
    assert bool((read[rounded == 0] > 0).all())


def test_single_precision_does_not_look_rounded() -> None:
    assert look(random_logits().softmax(1).float().double(), None, False).decimals is None


def test_a_few_probabilities_have_their_rest_spread_evenly_as_targets_top_k_stores_it() -> None:
    logits = random_logits()
    chances = logits.softmax(1)
    largest, classes = chances.topk(2)
    told = torch.full_like(chances, NAN).scatter(1, classes, largest)
    form = look(told, None, False)
    assert (form.outputs, form.top_k) == ("probabilities", 2)
    read = form.to_logits(told).softmax(1).double()
    torch.testing.assert_close(read.gather(1, classes), largest, rtol=1e-5, atol=1e-6)
    ours, theirs = (compress(each, 2, [1.0], torch.float32) for each in (form.to_logits(told), logits))
    torch.testing.assert_close(ours["classes"], theirs["classes"])
    torch.testing.assert_close(ours["rest"], theirs["rest"], rtol=1e-4, atol=1e-4)


def test_a_few_logits_alone_are_refused() -> None:
    told = torch.full((9, 6), NAN, dtype=torch.float64)
    told[:, :2] = random_logits(9, 2) + 4
    with pytest.raises(ValueError, match="do not say what the others weigh"):
        look(told, None, False)


def test_labels_have_no_dark_knowledge() -> None:
    told = torch.tensor([as_row(k, 3) for k in (2, 0, 1)], dtype=torch.float64)
    form = look(told, None, True)
    assert form.labels
    assert "without dark knowledge" in str(form)
    logits = form.to_logits(told)
    assert logits.argmax(1).tolist() == [2, 0, 1]
    assert logits.softmax(1).tolist() == torch.eye(3)[[2, 0, 1]].tolist()
    one_hot = torch.eye(3, dtype=torch.float64)
    assert look(one_hot, None, False).labels


def test_a_row_without_an_answer_stays_one() -> None:
    told = random_logits(5)
    told[3] = NAN
    logits = look(told, None, False).to_logits(told)
    assert logits.isnan().all(1).tolist() == [False, False, False, True, False]
