"""A network's tokenizer: trained on the training split's texts, or taken from a file."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd_cli.data.texts import Texts, texts_of
from kd_cli.errors import Phrase, first_line, must
from kd_cli.extras import library
from kd_cli.models.tokens import Tokenise, read_tokenizer
from kd_cli.models.vectors import digest
from kd_cli.ranges import whole_number

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # 0 fills up
KINDS = ("words", "pieces")
SMALLEST, LARGEST = 16, 1 << 20
FILE = "tokenizer.json"


def tokenise(texts: Texts | None, tokenizer: str, vocabulary: int, longest: int) -> Tokenise:
    """Return the layer that makes tokens of texts; without texts, which a stored network does not need, one that is
    filled with its weights.
    """
    whole_number(".model.vocabulary", vocabulary, SMALLEST, LARGEST)
    whole_number(".model.longest", longest, 8, what="a number of tokens")
    if texts is None:
        return Tokenise("", longest)
    if tokenizer in KINDS:
        return Tokenise(_trained(texts, tokenizer, vocabulary), longest)
    description = _read(tokenizer)
    read = read_tokenizer(description)
    if (size := read.get_vocab_size()) > vocabulary:
        hint = "Set {}=" + f"{size}."
        raise must(
            ".model.vocabulary", f"at least {size}, the size of {tokenizer}", vocabulary, hint, ".model.vocabulary"
        )
    return Tokenise(description, longest)


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a network for texts with the digests of the files that it begins from in place of their
    names.
    """
    made = dict(node)
    if node.get("tokenizer", KINDS[0]) not in KINDS:
        made["tokenizer"] = hashlib.sha256(_read(str(node["tokenizer"])).encode()).hexdigest()
    if node.get("vectors") is not None:
        made["vectors"] = digest(str(node["vectors"]))
    return made


def _trained(texts: Texts, kind: str, vocabulary: int) -> str:
    """The JSON of a tokenizer of the most frequent words, or of pieces of words, in lower case without accents."""
    tokenizers = library("tokenizers", "text", "a network for texts")
    models, trainers, cut = tokenizers.models, tokenizers.trainers, tokenizers.pre_tokenizers
    about = {"vocab_size": vocabulary, "special_tokens": list(SPECIAL), "show_progress": False}
    if kind == "words":
        made = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
        made.pre_tokenizer, trainer = cut.BertPreTokenizer(), trainers.WordLevelTrainer(**about)
    else:  # not WordPiece, whose trainer draws: other pieces each time
        made = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
        made.pre_tokenizer = cut.Sequence([cut.Metaspace(), cut.Punctuation()])
        trainer = trainers.BpeTrainer(**about, limit_alphabet=vocabulary - len(SPECIAL))
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.train_from_iterator(_each(texts), trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    description: str = made.to_str()
    return description


def _each(texts: Texts) -> Iterator[str]:
    for position in range(len(texts)):
        yield from texts_of(texts[position])


def _read(path: str) -> str:
    """The JSON of a tokenizer in a file, or in a folder as published networks have it."""
    rule = f"{', '.join(KINDS)}, or the path of a {FILE}"
    where = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        return where.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise must(".model.tokenizer", rule, path) from None
    except (OSError, ValueError) as error:
        raise must(".model.tokenizer", rule, Phrase(f"{path!r}: {first_line(error)}")) from error
