"""Vectors that a network's tokens begin with: those of a published network's own tokens, in fewer numbers.

A word's vector is the mean of those of the pieces that the published tokenizer makes of it, projected onto the
directions in which all of them differ most. A small student so begins with what the large one was taught of words.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kd_cli.errors import DataError, Phrase, first_line
from kd_cli.files.digests import digest_of, digests_of
from kd_cli.models.tokens import Tokenise, read_tokenizer

KEY = ".model.vectors"
RULE = "null, or the folder of a published model with model.safetensors and tokenizer.json"
FILES = ("model.safetensors", "tokenizer.json")
NAMES = ("word_embeddings.weight", "embed_tokens.weight", "wte.weight", "tok_embeddings.weight")


@torch.no_grad()
def begin_with(vectors: Tensor, tokens: Tokenise, folder: str | None) -> None:
    """Fill `vectors` `[vocabulary, width]` for each token of `tokens`, as widely spread as they were; nothing without a
    folder, or where the tokenizer is still to come.
    """
    if folder is None or not tokens.description:
        return
    published, content = _published(Path(folder)), (Path(folder) / FILES[1]).read_text(encoding="utf-8")
    theirs, ours = read_tokenizer(content), read_tokenizer(tokens.description)
    theirs.no_truncation()
    names = [ours.id_to_token(k) or "" for k in range(ours.get_vocab_size())]
    words = [each.ids for each in theirs.encode_batch([_plain(name) for name in names], add_special_tokens=False)]
    known = [k for k, ids in enumerate(words) if ids]
    means = torch.stack([published[words[k]].mean(0) for k in known])
    made = _projected(means - means.mean(0), vectors.shape[1])
    vectors[torch.tensor(known)] = made * (vectors.std() / made.std())


def digest(folder: str) -> str:
    """Return what the vectors depend on, as SHA-256; DataError where it is not there."""
    files = [Path(folder) / name for name in FILES]
    for file in files:
        if not file.is_file():
            raise DataError.must(KEY, RULE, Phrase(f"{folder!r} without {file.name}"))
    return digest_of(digests_of(files, "vectors"))


def _plain(token: str) -> str:
    """A token as it stands in a text: `##ing` is a piece of a word, `▁the` a whole one."""
    return token.removeprefix("##").removeprefix("▁")


def _projected(values: Tensor, width: int) -> Tensor:
    """These rows in `width` numbers: along the directions of the largest variance, the sign of each fixed; zeros where
    there are no more.
    """
    _, directions = torch.linalg.eigh(values.T @ values)
    main = directions.flip(1)[:, :width]
    main = main * main.gather(0, main.abs().argmax(0, keepdim=True)).sign()
    return torch.nn.functional.pad(values @ main, (0, width - main.shape[1]))


def _published(folder: Path) -> Tensor:
    digest(str(folder))
    try:
        with safe_open(folder / FILES[0], "pt") as file:
            found = [name for name in file.keys() if name.endswith(NAMES)]  # noqa: SIM118
            if len(found) != 1:
                got = Phrase(f"{str(folder)!r}, whose weights hold {len(found)} tables of word vectors")
                raise DataError.must(KEY, RULE, got)
            table: Tensor = file.get_tensor(found[0]).float()
            return table
    except SafetensorError as error:
        raise DataError.must(KEY, RULE, Phrase(f"{str(folder)!r}: {first_line(error)}")) from error
