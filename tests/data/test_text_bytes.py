import torch

from kd_cli.data.texts import bytes_of, encoded, of_like_lengths, padded, stored, texts_of

CPU = torch.device("cpu")


def test_what_is_padded_comes_back_as_it_was() -> None:
    texts = [encoded(each, 32) for each in ("one", "größer ☃", ("first", "second"))]
    assert [texts_of(text) for text in bytes_of(padded(texts, 32))] == [["one"], ["größer ☃"], ["first", "second"]]
    assert bytes_of(padded(texts, 32).long()) == texts


def test_a_text_is_cut_between_characters_and_a_pair_at_its_longer_half() -> None:
    assert encoded("abc☃", 5).decode() == "abc"
    assert texts_of(encoded(("a" * 30, "b" * 4), 20)) == ["a" * 15, "b" * 4]
    assert texts_of(encoded(("a" * 4, "b" * 30), 20)) == ["a" * 4, "b" * 15]
    assert texts_of(encoded(("a" * 30, "b" * 30), 21)) == ["a" * 10, "b" * 10]
    assert encoded("a\0b", 9) == b"a b"


def test_samples_are_chosen_streamed_and_told_apart_by_their_bytes() -> None:
    texts = stored([b"first", b"second one", b"third"], 16)
    (batch,) = texts.select(torch.tensor([2, 0])).stream([torch.tensor([1, 0, 1])], CPU)
    assert bytes_of(batch) == [b"first", b"third", b"first"]
    assert batch.shape == (3, 16)
    texts.spec.check(batch)
    assert len(set(texts.checksums().tolist())) == 3
    parted = stored([b"firsts", b"econd one", b"third"], 16)
    assert texts.digest != parted.digest
    assert texts.digest != stored([b"first", b"second one", b"third"], 17).digest


def test_batches_hold_texts_of_like_lengths_and_every_text_once() -> None:
    draw = torch.Generator().manual_seed(0)
    lengths, order = torch.randint(5, 300, (1000,), generator=draw), torch.randperm(1000, generator=draw)
    made = of_like_lengths(order, lengths, 16, draw)
    assert sorted(made.tolist()) == list(range(1000))

    def filled(chosen: torch.Tensor) -> int:
        return sum(int(lengths[batch].max()) * len(batch) for batch in chosen.split(16))

    assert filled(made) < 1.2 * int(lengths.sum()) < 1.5 * int(lengths.sum()) < filled(order)
    firsts = [int(lengths[batch].max()) for batch in made.split(16)]
    assert firsts != sorted(firsts)
