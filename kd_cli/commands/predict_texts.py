"""`kd predict texts=…`: a stored model's answers for the texts of a file."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from kd_cli.data.spec import BYTES
from kd_cli.data.tables import column_of, is_table, rows_of
from kd_cli.data.texts import Text, encoded, padded
from kd_cli.errors import DataError, must, reading
from kd_cli.measure.prediction import EVALUATION_BATCH
from kd_cli.screen import answer, write_csv
from kd_cli.store.models import Loaded

LISTED = 10


def predict_texts(loaded: Loaded, path: str, device: torch.device, format: str) -> list[dict[str, Any]]:
    """Print text, class and probability on standard output, a row for each text; DataError, and no answer, where some
    are empty.
    """
    spec = loaded.spec
    if spec.kind != "text" or spec.vocabulary != BYTES:
        raise must("path", "a model for texts", str(loaded.folder), f"It takes {spec}.")
    texts, longest = _texts(Path(path), _columns(loaded)), spec.shape[0]
    model, rows = loaded.model.to(device), []
    for start in range(0, len(texts), EVALUATION_BATCH):
        batch = texts[start : start + EVALUATION_BATCH]
        with torch.inference_mode():
            inputs = spec.to_network(padded([encoded(text, longest) for text in batch], longest).to(device))
            probabilities, classes = model(inputs).float().softmax(1).max(1)
        rows += [
            {"text": _shown(text), "class": loaded.classes[k], "probability": round(p, 6)}
            for text, k, p in zip(batch, classes.tolist(), probabilities.tolist(), strict=True)
        ]
    if format == "json":
        answer(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        write_csv(sys.stdout, ("text", "class", "probability"), rows)
    return rows


def _columns(loaded: Loaded) -> list[str]:
    """The columns of the texts that the model was trained on, which those of another table are called, too."""
    dataset = loaded.config.get("dataset")
    named = dataset.get("text") if isinstance(dataset, dict) else None
    names = [named] if isinstance(named, str) else named
    return [str(name) for name in names] if isinstance(names, list) and len(names) in (1, 2) else ["text"]


def _texts(path: Path, names: list[str]) -> list[Text]:
    if not path.is_file():
        raise DataError.must("texts", "a file with a text in each line, or a table", str(path))
    if is_table(path):
        rows = rows_of(path, "texts")
        parts = [column_of(path, rows, name, "texts") for name in names]
    elif len(names) == 2:
        raise DataError.must(
            "texts", f"a table with the columns {names[0]} and {names[1]}, for a model of pairs", str(path)
        )
    else:
        with reading(path):
            try:
                parts = [path.read_text(encoding="utf-8-sig").splitlines()]
            except UnicodeDecodeError as error:
                raise DataError(f"{path} is not UTF-8 ({error.reason}). Save it as UTF-8.") from error
    empty = [k + 1 for k in range(len(parts[0])) if not all(isinstance(p[k], str) and p[k].strip() for p in parts)]
    if empty or not parts[0]:
        where = ", ".join(map(str, empty[:LISTED])) + (", …" if len(empty) > LISTED else "")
        raise DataError(f"{path} holds {f'{len(empty)} empty text(s), at {where}' if empty else 'no text'}.")
    return list(parts[0]) if len(parts) == 1 else list(zip(*parts, strict=True))


def _shown(text: Text) -> str:
    return text if isinstance(text, str) else "\t".join(text)
