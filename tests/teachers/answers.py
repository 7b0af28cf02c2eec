"""Answers of a teacher of the digits, as files in the formats that people have."""

import csv
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from kd_cli.data.samples import Dataset, Split
from kd_cli.datasets.digits import digits


@cache
def data() -> Dataset:
    return digits()


def pixels(split: Split) -> Tensor:
    (images,) = split.samples.stream([torch.arange(len(split))], torch.device("cpu"))
    assert isinstance(images, Tensor)
    return images


@cache
def chances(part: str = "transfer") -> Tensor:
    """The probabilities of a fitted teacher, `[samples, 10]`."""
    train = data().train
    model = LogisticRegression(max_iter=200).fit(pixels(train).flatten(1).numpy() / 255, train.labels.numpy())
    split: Split = getattr(data(), part)
    return torch.from_numpy(model.predict_proba(pixels(split).flatten(1).numpy() / 255))


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def index(part: str = "transfer") -> list[int]:
    split: Split = getattr(data(), part)
    return split.index.tolist()


def rows(part: str = "transfer") -> list[list[Any]]:
    """Index and probabilities of each sample."""
    return [[k, *row] for k, row in zip(index(part), chances(part).tolist(), strict=True)]


def written(folder: Path, kind: str) -> Path:
    """The answers in a file of this kind."""
    path, table = folder / f"answers.{kind.rpartition('-')[2]}", chances()
    logits, named = table.log(), index()
    if kind == "csv":
        write_csv(path, ["index", *(f"p_{k}" for k in range(10))], rows())
    elif kind == "list-csv":
        write_csv(path, ["id", "logits"], [[k, json.dumps(row)] for k, row in zip(named, logits.tolist(), strict=True)])
    elif kind == "jsonl":
        lines = (json.dumps({"index": k, "scores": {str(c): p for c, p in enumerate(row)}}) for k, *row in rows())
        path.write_text("\n".join(lines))
    elif kind == "parquet":
        import pyarrow
        from pyarrow.parquet import write_table

        write_table(pyarrow.table({"index": named, "probabilities": table.tolist()}), path)
    elif kind == "npz":
        np.savez(path, index=np.array(named), logits=logits.numpy())
    else:
        from safetensors.torch import save_file

        save_file({"logits": logits.float()}, path)
    return path
