"""Text classifiers of the library transformers: behind their own tokenizers, which are stored with the weights."""

import hashlib
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kd_cli.data.spec import Spec
from kd_cli.errors import DataError, Phrase, first_line
from kd_cli.extras import library
from kd_cli.models.hub import CONFIG, read_json
from kd_cli.models.tokens import Reads, Tokenise, Tokens, of_texts
from kd_cli.ranges import whole_number

TOKENIZER, ABOUT = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model"), "tokenizer_config.json"
LONGEST = 512  # tokens, unless the model reads fewer


def inputs_of_texts(folder: Path) -> dict[str, Any]:
    """Return by which tokenizer, as SHA-256, a model in a folder reads texts, and at most how many tokens of one; empty
    where it has none.
    """
    file = next((folder / name for name in TOKENIZER if (folder / name).is_file()), None)
    if file is None:
        return {}
    about = read_json(folder, ABOUT) if (folder / ABOUT).is_file() else {}
    stated = (about.get("model_max_length"), read_json(folder, CONFIG).get("max_position_embeddings"))
    longest = min([LONGEST, *(int(each) for each in stated if isinstance(each, int | float) and each > 0)])
    return {"tokenizer": hashlib.sha256(file.read_bytes()).hexdigest(), "longest": longest}


def behind_tokenizer(network: nn.Module, inputs: dict[str, Any], spec: Spec) -> Reads:
    """Return the network behind a tokenizer that is still to come."""
    of_texts(spec)
    longest = inputs.get("longest", LONGEST)
    whole_number(".model.inputs.longest", longest, 8, what="a number of tokens")
    return Reads(Tokenise("", longest), _Classifier(network))


def read_by_its_own(shown: Reads, folder: Path) -> Reads:
    """Return the same, with the tokenizer in the folder."""
    transformers = library("transformers", "hf", "a model of the Hugging Face library")
    hint = "Put its tokenizer.json there."
    if not any((folder / name).is_file() for name in TOKENIZER):  # the library would make one up
        got = Phrase(f"{str(folder)!r} without one")
        raise DataError.must(".model.name", "a model with a tokenizer", got, hint)
    try:
        its = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        shown.tokens.description = its.backend_tokenizer.to_str()
    except Exception as error:  # each tokenizer, each kind of file has its own
        got = Phrase(f"{str(folder)!r}: {first_line(error)[:300]}")
        raise DataError.must(".model.name", "a model whose tokenizer can be read", got, hint) from error
    return shown


class _Classifier(nn.Module):
    """A classifier of transformers, asked with what it wants to know of the tokens."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        about: Any = network.config
        self.padding = int(getattr(about, "pad_token_id", 0) or 0)
        self.parted = "token_type_ids" in signature(network.forward).parameters and about.type_vocab_size > 1

    def forward(self, tokens: Tokens) -> Tensor:
        mask = tokens.mask
        ids = tokens.ids.masked_fill(~mask, self.padding)
        more = {"token_type_ids": tokens.kinds} if self.parted else {}
        logits: Tensor = self.network(input_ids=ids, attention_mask=mask.long(), **more).logits
        return logits
