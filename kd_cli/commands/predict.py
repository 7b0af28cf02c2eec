"""`kd predict`: a stored model's answers for image files."""

import json
import sys
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from kd_cli.data.decoding import EXTENSIONS, Unusable, decode, read_image
from kd_cli.data.folder import Listing, files_below
from kd_cli.device import find_device
from kd_cli.errors import DataError, must, reading
from kd_cli.measure.prediction import evaluation_batch
from kd_cli.screen import answer, shown, write_csv
from kd_cli.store.models import load


def main(cfg: DictConfig) -> list[dict[str, Any]]:
    """Prints file, class and probability on standard output, as CSV or JSON, a row for each image.

    Raises DataError after the answers, for the files that cannot be classified.
    """
    device = find_device(cfg.device)
    loaded = load(cfg.path, list(cfg.trusted_modules))
    if loaded.spec.kind != "image":
        raise must("path", "a model for images", cfg.path, f"It takes {loaded.spec}.")
    channels, height, width = loaded.spec.shape
    paths, others, absent = _asked(cfg.images)
    model, rows, bad, at_once = loaded.model.to(device), [], [], evaluation_batch(loaded.spec)
    for start in range(0, len(paths), at_once):
        batch = []
        for path in paths[start : start + at_once]:
            try:
                batch.append((path, decode(read_image(path), (height, width), channels)))
            except Unusable as why:
                bad.append(shown(f"{path}: {why}"))
        if not batch:
            continue
        with torch.inference_mode():
            images = loaded.spec.to_network(torch.stack([image for _, image in batch]).to(device))
            probabilities, classes = model(images).float().softmax(1).max(1)
        rows += [
            {"file": str(path), "class": loaded.classes[k], "probability": round(p, 6)}
            for (path, _), k, p in zip(batch, classes.tolist(), probabilities.tolist(), strict=True)
        ]
    if cfg.format == "json":
        answer(json.dumps(rows, indent=2))
    elif rows:
        write_csv(sys.stdout, ("file", "class", "probability"), rows)
    said = [_listed("cannot be decoded; mend or remove them", bad, "image")] if bad else []
    if absent:
        said.append(_listed("are not there", absent, "name"))
    if others:
        said.append(_left_out(others))
    if said:
        raise DataError("\n".join(said))
    return rows


def _asked(images: Any) -> tuple[list[Path], list[Path], list[str]]:
    """The files to classify, each once; those below folders that are no images by their names; and what is named and
    is not there. DataError where nothing is there.
    """
    given = [str(word) for word in images] if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    if not given or not all(isinstance(word, str) and word for word in given):
        raise must("images", "a file, a folder of images, a pattern, or a list of such", images)
    found: dict[Path, None] = {}
    others: dict[Path, None] = {}
    absent: list[str] = []
    for word in given:
        with reading(word):
            listings = list(_listings(word))
        for listing in listings:
            found |= dict.fromkeys(listing.images)
            others |= dict.fromkeys(listing.others)
        if not listings:
            absent.append(shown(word))
    if not found:
        what = "which fits no file" if set("*?[") & set(given[0]) else "which does not exist"
        raise DataError(f"images must be a file or a folder of images, got {given[0]!r}, {what}.")
    return list(found), list(others), absent


def _listings(word: str) -> Iterator[Listing]:
    """The file itself, whatever its name; what lies below a folder; what a pattern fits, if anything."""
    path = Path(word)
    if path.is_dir():
        listing = files_below(path)
        if not listing.images:
            wanted = f"images must be a folder that holds images ({', '.join(sorted(EXTENSIONS))}), got {word!r}."
            raise DataError("\n".join([wanted, *([_left_out(listing.others)] if listing.others else [])]))
        yield listing
    elif path.exists():
        yield Listing([path], [])
    else:
        for each in sorted(Path(name) for name in glob(word, recursive=True)):
            yield files_below(each) if each.is_dir() else Listing([each], [])


def _listed(what: str, lines: Sequence[Any], noun: str) -> str:
    return f"{len(lines)} {noun}(s) {what}:" + "".join(f"\n  {line}" for line in lines)


def _left_out(others: Sequence[Path]) -> str:
    return _listed("are no images by their names, and are not classified", others, "file")
