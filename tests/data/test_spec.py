"""What a sample is: how it is stored, shown to a network, checked, and told apart from another."""

import json
from dataclasses import replace

import pytest
import torch

from kd_cli.data.inputs import count, joined, rows
from kd_cli.data.resident import Resident
from kd_cli.data.samples import Answer, Batch, Mixture
from kd_cli.data.spec import Spec, image_spec
from kd_cli.data.splits import assemble, fingerprint, whole
from kd_cli.errors import DataError
from kd_cli.models.cnn import cnn

CPU = torch.device("cpu")
TEXT = Spec("text", (3,), vocabulary=9)
MASKED = Spec("text", (3,), vocabulary=9, parts=("ids", "mask"))
SOUND = Spec("audio", (4,), sample_rate=8000)
ROW = Spec("features", (2,))


def test_what_is_stored_is_shown_to_a_network_as_its_kind_wants() -> None:
    pixels = torch.tensor([0, 51, 255, 1], dtype=torch.uint8).view(1, 1, 2, 2)
    shown = image_spec((1, 2, 2)).to_network(pixels)
    assert torch.equal(shown, torch.tensor([0, 51, 255, 1]).div(255).view(1, 1, 2, 2))
    ids = torch.tensor([[3, 0, 8]], dtype=torch.int16)
    assert TEXT.to_network(ids).dtype == torch.int64
    assert TEXT.to_network(ids).tolist() == [[3, 0, 8]]
    assert SOUND.to_network(torch.tensor([[-32768, 0, 16384, 1]], dtype=torch.int16))[0, :3].tolist() == [-1, 0, 0.5]
    assert SOUND.to_network(torch.tensor([[2.0, 0, 0, 0]], dtype=torch.float64)).dtype == torch.float32
    assert ROW.to_network(torch.tensor([[200, 7]], dtype=torch.uint8)).tolist() == [[200.0, 7.0]]
    both = MASKED.to_network({"ids": ids, "mask": torch.tensor([[1, 1, 0]], dtype=torch.uint8)})
    assert {name: value.dtype for name, value in both.items()} == {"ids": torch.int64, "mask": torch.int64}


@pytest.mark.parametrize("spec", [image_spec((3, 4, 5)), TEXT, MASKED, SOUND, ROW], ids=str)
def test_a_spec_comes_back_from_json_and_gives_blank_inputs_of_its_shape(spec: Spec) -> None:
    assert Spec.of(json.loads(json.dumps(spec.stored()))) == spec
    blank = spec.blank(2)
    assert count(blank) == 2
    for value in blank.values() if spec.parts else [blank]:
        assert tuple(value.shape) == (2, *spec.shape)
        assert value.dtype == (torch.int64 if spec.kind == "text" else torch.float32)
    if spec.parts:
        assert blank["mask"].all()  # a mean over nothing is no number
        assert not blank["ids"].any()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"kind": "smell", "shape": (1,)}, "whose kind is one of image, text, audio, features, got 'smell'."),
        ({"kind": "features", "shape": ()}, "whose shape is a list of whole numbers ≥ 1, got []."),
        ({"kind": "features", "shape": (2.5,)}, "whose shape is a list of whole numbers ≥ 1, got [2.5]."),
        ({"kind": "image", "shape": (8, 8)}, "whose shape is [channels, height, width] of one image, got [8, 8]."),
        ({"kind": "text", "shape": (8,)}, "whose vocabulary is a whole number ≥ 1 for text"),
        ({"kind": "features", "shape": (8,), "vocabulary": 3}, "for text, and for nothing else, got 3."),
        ({"kind": "audio", "shape": (8,), "sample_rate": True}, "whose sample_rate is a whole number ≥ 1 for audio"),
        ({"kind": "text", "shape": (8,), "vocabulary": 3, "parts": ("a", "a")}, "different names, got ['a', 'a']."),
    ],
)
def test_a_spec_that_cannot_be_is_refused(about: dict, message: str) -> None:
    with pytest.raises(DataError) as refusal:
        Spec.of(about)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("spec", "values", "message"),
    [
        (
            TEXT,
            torch.zeros(2, 3),
            "must be one of text inputs [3] (vocabulary 9) stored as whole numbers, got float32 of [3].",
        ),
        (TEXT, torch.zeros(2, 4, dtype=torch.int64), "got int64 of [4]."),
        (MASKED, torch.zeros(2, 3, dtype=torch.int64), "got a single tensor."),
        (MASKED, {"ids": torch.zeros(2, 3, dtype=torch.int64)}, "got tensors called ids."),
        (SOUND, torch.zeros(2, 4, dtype=torch.int64), "stored as floating-point numbers or int16, got int64 of [4]."),
        (ROW, torch.zeros(2, 2, dtype=torch.complex64), "got complex64 of [2]."),
        (image_spec((1, 2, 2)), torch.zeros(2, 1, 2, 2), "uint8 images [channels, height, width], got float32 of"),
    ],
)
def test_samples_of_another_form_are_refused(spec: Spec, values: object, message: str) -> None:
    with pytest.raises(DataError) as refusal:
        Resident(values, spec)  # type: ignore[arg-type]
    assert message in str(refusal.value)


def test_values_that_are_none_of_their_kind_are_refused() -> None:
    Resident(torch.tensor([[0, 8, 8]]), TEXT)
    for ids, got in (([0, 9, 1], 9), ([0, -1, 1], -1)):
        with pytest.raises(DataError, match=f"token ids from 0 to 8, got {got}"):
            Resident(torch.tensor([ids]), TEXT)
    masks = torch.full((1, 3), 200)
    Resident({"ids": torch.tensor([[0, 8, 8]]), "mask": masks}, MASKED)
    with pytest.raises(DataError, match=r"got NaN or infinity in 2 sample\(s\)"):
        Resident(torch.tensor([[1, torch.nan], [0, 0], [torch.inf, torch.inf]]), ROW)


def test_samples_of_several_parts_are_streamed_selected_and_told_apart_by_each() -> None:
    ids, mask = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 0]]), torch.ones(3, 3, dtype=torch.uint8)
    held = Resident({"ids": ids, "mask": mask}, MASKED)
    other = Resident({"ids": ids, "mask": mask.index_fill(0, torch.tensor([1]), 0)}, MASKED)
    assert (held.checksums() == other.checksums()).tolist() == [True, False, True]
    assert held.digest != other.digest
    (batch,) = held.stream([torch.tensor([2, 0])], CPU)
    assert batch["ids"].tolist() == [[7, 8, 0], [1, 2, 3]]
    assert torch.equal(held.select(torch.tensor([2, 0])).checksums(), held.checksums()[[2, 0]])
    assert count(joined([batch, rows(batch, slice(0, 1))])) == 3


def test_the_digest_of_a_text_holds_its_vocabulary() -> None:
    ids = torch.tensor([[1, 2, 3]])
    one, other = (Resident(ids, Spec("text", (3,), vocabulary=size)) for size in (9, 10))
    assert one.digest != other.digest
    assert Resident(ids.int(), one.spec).digest != one.digest
    labels = torch.tensor([0])
    assert fingerprint(whole(one, labels)) != fingerprint(whole(other, labels))


def test_splits_of_other_samples_make_no_data_set() -> None:
    labels = torch.tensor([0, 1])
    train = whole(Resident(torch.zeros(2, 2), ROW), labels)
    test = whole(Resident(torch.zeros(2, 3), Spec("features", (3,))), labels)
    with pytest.raises(DataError, match=r"mine: all samples must be features inputs \[2\], got features inputs \[3\]"):
        assemble("mine", train, test, ["a", "b"], ROW, 0, 0)


def test_a_constructor_is_given_what_it_asks_for() -> None:
    def by_shape(num_classes: int, input_shape: tuple[int, ...]) -> None: ...
    def by_spec(num_classes: int, spec: Spec) -> None: ...
    def by_both(num_classes: int, input_shape: tuple[int, ...], spec: Spec) -> None: ...
    def by_any(**arguments: object) -> None: ...

    shape = {"input_shape": (3,)}
    assert TEXT.arguments(by_shape) == TEXT.arguments(by_any) == shape
    assert TEXT.arguments(by_spec) == {"spec": TEXT}
    assert TEXT.arguments(by_both) == {"spec": TEXT, **shape}
    assert image_spec((1, 8, 8)).arguments(cnn) == {"input_shape": (1, 8, 8)}


def test_a_part_of_a_batch_has_the_rows_of_everything_in_it() -> None:
    numbers = torch.arange(4)
    answer = Answer(numbers[:, None] * 2.0, {"hidden": numbers[:, None] * 3})
    batch = Batch({"a": numbers[:, None], "b": -numbers[:, None]}, numbers, answer, Mixture(numbers + 1, numbers / 4))
    part = batch.rows(slice(1, 3))
    assert part.inputs["b"].flatten().tolist() == [-1, -2]
    assert (part.labels.tolist(), len(part)) == ([1, 2], 2)
    assert part.teacher is not None
    assert part.teacher.logits.flatten().tolist() == [2, 4]
    assert part.teacher.features["hidden"].flatten().tolist() == [3, 6]
    assert part.mixture == Mixture(*part.mixture)
    assert [value.tolist() for value in part.mixture] == [[2, 3], [0.25, 0.5]]


@pytest.mark.parametrize(
    "one",
    [TEXT, MASKED, SOUND, ROW, image_spec((1, 2, 2)), replace(TEXT, vocabulary=10), replace(SOUND, sample_rate=7)],
    ids=str,
)
def test_specs_that_differ_read_differently(one: Spec) -> None:
    others = (TEXT, MASKED, SOUND, ROW, image_spec((1, 2, 2)))
    assert [str(other) == str(one) for other in others] == [other == one for other in others]
