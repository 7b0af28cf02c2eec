"""Networks that read texts, each with a tokenizer of its own inside."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_model
from text_files import sentences
from torch import Tensor, nn

from kd_cli.data.spec import image_spec
from kd_cli.data.texts import Texts, encoded, padded, stored
from kd_cli.errors import KdError
from kd_cli.models.bilstm import bilstm
from kd_cli.models.bow import bow
from kd_cli.models.textcnn import textcnn
from kd_cli.models.tokens import Tokenise
from kd_cli.models.transformer import transformer

TEXTS = [said for said, _ in sentences(90, 1)]
NETWORKS: list[Callable[..., nn.Module]] = [bow, bilstm, textcnn, transformer]
SIZES = {"vocabulary": 64, "width": 16}


def samples(texts: list[str] = TEXTS) -> Texts:
    return stored([encoded(text, 128) for text in texts], 128)


def built(network: Callable[..., nn.Module], **options: object) -> nn.Module:
    torch.manual_seed(0)
    texts = samples()
    return network(**{"num_classes": 3, "spec": texts.spec, "texts": texts, **SIZES, **options}).eval()


def shown(*texts: str) -> Tensor:
    return padded([encoded(text, 128) for text in texts], 128).long()


@pytest.mark.parametrize("network", NETWORKS)
def test_logits_do_not_depend_on_what_else_is_in_the_batch(network: Callable[..., nn.Module]) -> None:
    model = built(network)
    with torch.inference_mode():
        together = model(shown(*TEXTS, "dog"))  # more than are asked about together
        alone = torch.cat([model(shown(text)) for text in (*TEXTS, "dog")])
    assert together.shape == (91, 3)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together.std(0).min() > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_what_nobody_knows_and_what_is_empty_has_logits_too(network: Callable[..., nn.Module]) -> None:
    with torch.inference_mode():
        assert built(network)(shown("", "☃☃☃", "x " * 64)).isfinite().all()


@pytest.mark.parametrize("network", NETWORKS)
def test_the_tokenizer_is_stored_with_the_weights(network: Callable[..., nn.Module], tmp_path: Path) -> None:
    model = built(network)
    save_model(model, str(tmp_path / "model.safetensors"))
    again = built(network, texts=None)
    assert again.state_dict()["tokens._extra_state"].numel() == 0
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.inference_mode():
        assert torch.equal(model(shown(*TEXTS)), again(shown(*TEXTS)))


def test_training_a_tokenizer_twice_gives_the_same() -> None:
    for kind in ("words", "pieces"):
        first, second = (built(bow, tokenizer=kind).tokens for _ in range(2))
        assert isinstance(first, Tokenise)
        assert first.description == second.description
    assert '"dog"' in built(bow).tokens.description  # a word of the training texts


def test_words_in_the_order_of_a_text_count_where_pairs_have_vectors() -> None:
    with torch.inference_mode():
        bag, pairs = built(bow), built(bow, bigrams=500)
        torch.testing.assert_close(bag(shown("dog saw cat")), bag(shown("cat saw dog")))
        assert not torch.allclose(pairs(shown("dog saw cat")), pairs(shown("cat saw dog")))


def test_the_second_text_of_a_pair_is_told_from_the_first() -> None:
    tokens = built(bow).tokens
    assert isinstance(tokens, Tokenise)
    made = tokens(padded([encoded(("dog saw", "cat"), 128)], 128))
    assert made.kinds.tolist() == [[0, 0, 0, 0, 1, 1]]
    assert made.lengths.tolist() == [6]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tokenizer": "nowhere.json"}, "model.tokenizer must be words, pieces, or the path of a tokenizer.json"),
        ({"vocabulary": 3}, "model.vocabulary must be"),
        ({"longest": 0}, "model.longest must be a number of tokens"),
        ({"width": 0}, "model.width must be"),
        ({"spec": image_spec((1, 8, 8))}, "one for texts"),
        ({"vectors": "nowhere"}, "model.vectors must be null, or the folder of a published model"),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_key(options: dict, said: str) -> None:
    for network in NETWORKS:
        with pytest.raises(KdError) as refused:
            built(network, **options)
        assert said in str(refused.value)


def test_a_tokenizer_from_a_file_needs_as_many_vectors_as_it_has_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(built(bow).tokens.description)
    model = built(bilstm, tokenizer=str(file))
    assert model.tokens.description == file.read_text()
    with pytest.raises(KdError, match=r"model.vocabulary must be at least \d+, the size of"):
        built(bilstm, tokenizer=str(tmp_path), vocabulary=16)
    file.write_text("{}")
    with pytest.raises(KdError, match="a network whose tokenizer can be read"):
        built(bilstm, tokenizer=str(file))
