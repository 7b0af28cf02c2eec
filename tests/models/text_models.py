"""Small text classifiers as transformers writes them, each with the tokenizer that it reads by."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SIZE = {"vocab_size": 120, "max_position_embeddings": 40}
BERT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, **SIZE}
DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, **SIZE}


def published(
    folder: Path, texts: Sequence[str], kind: str = "Bert", names: Sequence[str] = (), spread: float = 0.5
) -> Any:
    """A classifier of random weights in a folder, and what its library makes of texts: a function to logits."""
    import tokenizers
    import transformers

    transformers.utils.logging.set_verbosity(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(3)
    words = tokenizers.BertWordPieceTokenizer(lowercase=True)
    words.train_from_iterator(texts, vocab_size=120, min_frequency=1, show_progress=False)
    folder.mkdir()
    words.save_model(str(folder))
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=40)
    tokenizer.save_pretrained(folder)
    about = getattr(transformers, f"{kind}Config")(
        **(BERT if kind == "Bert" else DISTILBERT),
        initializer_range=spread,
        id2label=dict(enumerate(names)) or {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"},
    )
    model = getattr(transformers, f"{kind}ForSequenceClassification")(about).eval()
    model.save_pretrained(folder)

    @torch.inference_mode()
    def said(*asked: Any) -> torch.Tensor:
        shown = tokenizer(list(asked[0]), *map(list, asked[1:]), return_tensors="pt", padding=True, truncation=True)
        if kind != "Bert":
            shown.pop("token_type_ids", None)
        return model(**shown).logits

    return said
