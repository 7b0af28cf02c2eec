"""Text classifiers of transformers, out of folders that the library wrote."""

from pathlib import Path

import pytest
import torch
from running import inside
from safetensors.torch import load_file
from text_files import sentences, subjects, write
from text_models import published

from kd_cli.data.spec import Spec
from kd_cli.data.texts import encoded, padded, stored
from kd_cli.errors import KdError
from kd_cli.models.bow import bow
from kd_cli.models.hf import hf, resolved
from kd_cli.models.tokens import read_tokenizer

TEXTS = [said for said, _ in sentences(60, 1)]
SPEC = Spec("text", (256,), vocabulary=256)
BOTH = pytest.mark.parametrize("kind", ["Bert", "DistilBert"])


def shown(*texts: str | tuple[str, str]) -> torch.Tensor:
    return padded([encoded(text, 256) for text in texts], 256).long()


@BOTH
def test_a_text_model_says_what_its_library_says(kind: str, tmp_path: Path) -> None:
    said = published(tmp_path / "there", TEXTS, kind)
    ours = hf(None, SPEC, str(tmp_path / "there")).eval()
    long = "dog " * 60  # more than it reads
    with torch.inference_mode():
        torch.testing.assert_close(ours(shown(*TEXTS, long)), said([*TEXTS, long]), rtol=1e-4, atol=1e-4)
        pairs = list(zip(TEXTS[:20], TEXTS[20:40], strict=True))
        torch.testing.assert_close(ours(shown(*pairs)), said(TEXTS[:20], TEXTS[20:40]), rtol=1e-4, atol=1e-4)


def test_every_other_layer_is_kept_with_its_weights(tmp_path: Path) -> None:
    published(tmp_path / "there", TEXTS)
    whole, half = (hf(3, SPEC, str(tmp_path / "there"), every=step).eval() for step in (1, 2))
    layers = [model.network.network.bert.encoder.layer for model in (whole, half)]
    assert [len(each) for each in layers] == [4, 2]
    for kept, layer in zip(layers[1], layers[0][::2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), layer.parameters(), strict=True))
    assert half(shown("dog")).shape == (1, 3)
    with pytest.raises(KdError, match=r"model.every must be"):
        hf(3, SPEC, str(tmp_path / "there"), every=0)


def test_what_determines_a_model_holds_its_tokenizer(tmp_path: Path) -> None:
    published(tmp_path / "one", TEXTS)
    published(tmp_path / "other", TEXTS[:8])
    one, other = (resolved({"name": str(tmp_path / name)})["inputs"] for name in ("one", "other"))
    assert one["tokenizer"] != other["tokenizer"]
    assert one["longest"] == 40


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "there", TEXTS)
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        (tmp_path / "there" / name).unlink(missing_ok=True)
    with pytest.raises(KdError, match=r"model.name must be a model with a tokenizer, got .* without one"):
        hf(3, SPEC, str(tmp_path / "there"))


def test_words_begin_with_the_published_vectors_of_their_pieces(tmp_path: Path) -> None:
    published(tmp_path / "there", TEXTS)
    texts = stored([encoded(text, 256) for text in TEXTS], 256)
    made = bow(3, texts.spec, texts, vocabulary=64, width=16, vectors=str(tmp_path / "there")).network.words.weight
    theirs = load_file(tmp_path / "there" / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    pieces = read_tokenizer((tmp_path / "there" / "tokenizer.json").read_text())
    ours = read_tokenizer(bow(3, texts.spec, texts, vocabulary=64).tokens.description)
    asked = ("dog", "cat", "hammer", "soup", "the", "near")
    words = [word for word in asked if pieces.token_to_id(word) is not None]
    assert len(words) >= 3
    own = torch.stack([made[ours.token_to_id(word)] for word in words]).detach()
    published_own = torch.stack([theirs[pieces.token_to_id(word)] for word in words])
    ratio = torch.pdist(own) / torch.pdist(published_own)  # all directions are kept: but for a factor
    torch.testing.assert_close(ratio / ratio[0], torch.ones_like(ratio), rtol=1e-3, atol=1e-3)


def test_a_published_encoder_is_trained_further_and_teaches_its_own_half(tmp_path: Path) -> None:
    subjects(tmp_path / "subjects")
    published(tmp_path / "there", TEXTS, spread=0.05)
    words = ["dataset=text", "dataset.root=subjects", "teacher=tuned_text", "student=distil"]
    words += [f"{role}.model.name=there" for role in ("teacher", "student")]
    words += [f"{role}.train.optimizer.lr=0.005" for role in ("teacher", "student")]
    words += ["teacher.train.epochs=12", "student.train.epochs=4"]
    done = inside("distill", *words, cwd=tmp_path)
    assert done.result["teacher"]["errors"] <= 30  # of 60; 40 by chance
    assert done.result["student"]["params"] < done.result["teacher"]["params"]
    (tmp_path / "there").rename(tmp_path / "gone")
    judged = inside("evaluate", f"path={done.run}", "format=csv", cwd=tmp_path)
    assert judged.status == 0, judged.err
    assert f",{done.result['student']['errors']}," in judged.out


def test_distilbert_sst2_takes_a_model_of_the_published_format(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    rows = [(said, "positive" if k % 2 else "negative") for k, said in enumerate(TEXTS)]
    for name in ("train.tsv", "test.tsv"):
        write(folder / name, rows, ("sentence", "label"))
    said = published(tmp_path / "there", TEXTS, "DistilBert", ("NEGATIVE", "POSITIVE"))
    words = ("experiment=distilbert_sst2", "dataset.root=reviews", "teacher.name=there", "student.train.epochs=1")
    done = inside("distill", *words, cwd=tmp_path)
    wrong = (said(TEXTS).argmax(1) != torch.tensor([k % 2 for k in range(60)])).sum()
    assert done.result["teacher"]["errors"] == int(wrong)
    refused = inside("distill", *words, "teacher.name=nowhere/there", cwd=tmp_path)
    assert refused.status == 1
    assert "teacher.name" in refused.err
    assert "Traceback" not in refused.err
