import pytest
import torch

from kd_cli.data.texts import bytes_of, encoded, padded, texts_of
from kd_cli.data.words import WordNoise
from kd_cli.errors import KdError

SAID = [" ".join(f"w{k}" for k in range(20)), "alone", ("left half here", "and the right one")]
STORED = padded([encoded(text, 96) for text in SAID * 40], 96)
INDEX = torch.arange(len(STORED))


def shown(augment: WordNoise, view: int = 0, seed: int = 3) -> list[list[str]]:
    return [texts_of(text) for text in bytes_of(augment(STORED, INDEX, seed, view))]


def test_a_view_is_the_same_whenever_and_in_whatever_batch_it_is_asked_for() -> None:
    augment = WordNoise(drop=0.2, mask=0.2, span=0.3)
    whole = augment(STORED, INDEX, 3, 1)
    assert torch.equal(augment(STORED[7:9], INDEX[7:9], 3, 1), whole[7:9])
    assert not torch.equal(augment(STORED, INDEX, 3, 2), whole)
    assert not torch.equal(augment(STORED, INDEX, 4, 1), whole)


def test_each_word_is_dropped_or_masked_by_its_chance() -> None:
    kept = [len(parts[0].split()) for parts in shown(WordNoise(drop=0.25))[::3]]
    assert 13.5 < sum(kept) / len(kept) < 16.5
    masked = [parts[0].split().count("[MASK]") for parts in shown(WordNoise(mask=0.25))[::3]]
    assert 3.5 < sum(masked) / len(masked) < 6.5
    assert all(len(parts[0].split()) == 20 for parts in shown(WordNoise(mask=0.25))[::3])


def test_the_order_stays_and_a_word_is_always_left() -> None:
    for (parts,) in shown(WordNoise(drop=0.5))[::3]:
        numbers = [int(word[1:]) for word in parts.split()]
        assert numbers == sorted(numbers)
    assert {tuple(parts) for parts in shown(WordNoise(drop=1))[1::3]} == {("alone",)}
    assert {tuple(parts) for parts in shown(WordNoise(drop=1))[2::3]} == {("left", "and")}


def test_a_span_is_of_one_to_five_neighbours() -> None:
    found = [[int(word[1:]) for word in parts[0].split()] for parts in shown(WordNoise(span=1))[::3]]
    assert {len(numbers) for numbers in found} == {1, 2, 3, 4, 5}
    assert all(numbers == list(range(numbers[0], numbers[0] + len(numbers))) for numbers in found)


def test_without_any_chance_texts_stay_as_they_are_and_masks_are_cut_where_there_is_no_room() -> None:
    assert torch.equal(WordNoise()(STORED, INDEX, 0, 0), STORED)
    full = padded([b"a b c d e"], 9)
    assert bytes_of(WordNoise(mask=1)(full, torch.tensor([0]), 0, 0)) == [b"[MASK] [M"]


@pytest.mark.parametrize(("wrong", "key"), [({"drop": 1.5}, "drop"), ({"mask": "x"}, "mask"), ({"token": ""}, "token")])
def test_a_share_outside_its_range_is_refused(wrong: dict, key: str) -> None:
    with pytest.raises(KdError, match=f"augment.{key} must be"):
        WordNoise(**wrong)
