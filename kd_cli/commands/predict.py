"""`kd predict`: a stored model's answers for files of images or sounds, or for texts."""

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from kd_cli.commands.predict_sounds import predict_sounds
from kd_cli.commands.predict_texts import predict_texts
from kd_cli.data.decoding import EXTENSIONS, decode, read_image
from kd_cli.data.folder import Listing, files_below
from kd_cli.data.shades import Unusable, check_shades
from kd_cli.data.sounds import EXTENSIONS as SOUNDS
from kd_cli.device import find_device
from kd_cli.errors import DataError, Phrase, must, reading
from kd_cli.measure.prediction import evaluation_batch
from kd_cli.screen import answer, shown, write_csv
from kd_cli.store.models import Loaded, load


def main(cfg: DictConfig) -> list[dict[str, Any]]:
    """Prints file, class and probability on standard output, as CSV or JSON, a row for each image or text.

    Raises DataError after the answers, for the files that cannot be classified.
    """
    device = find_device(cfg.device)
    given = [key for key in ("images", "sounds", "texts") if cfg[key] is not None]
    if len(given) != 1:
        raise must("images, sounds or texts", "given, one of them", Phrase(" and ".join(given) or "none"))
    loaded = load(cfg.path, list(cfg.trusted_modules))
    if cfg.texts is not None:
        return predict_texts(loaded, cfg.texts, device, cfg.format)
    if cfg.sounds is not None:
        return _sounds(cfg, loaded, device)
    if loaded.spec.kind != "image":
        raise must("path", "a model for images", cfg.path, f"It takes {loaded.spec}.")
    channels, height, width = loaded.spec.shape
    scale = (loaded.config.get("dataset") or {}).get("range")
    check_shades(scale)
    asked = _asked("image", cfg.images, EXTENSIONS)
    paths = asked.wanted
    model, rows, bad, at_once = loaded.model.to(device), [], [], evaluation_batch(loaded.spec)
    for start in range(0, len(paths), at_once):
        batch = []
        for path in paths[start : start + at_once]:
            try:
                batch.append((path, decode(read_image(path), (height, width), channels, scale)))
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
    _tell(rows, cfg.format)
    _refuse(asked, "image", [_listed("cannot be decoded; mend or remove them", bad, "image")] if bad else [])
    return rows


def _sounds(cfg: DictConfig, loaded: Loaded, device: torch.device) -> list[dict[str, Any]]:
    """The answers for every sound that can be used; then DataError with those that cannot."""
    asked, bad = _asked("sound", cfg.sounds, SOUNDS), list[str]()
    rows = list(predict_sounds(loaded, asked.wanted, device, bad))
    _tell(rows, cfg.format)
    _refuse(asked, "sound", [_listed("cannot be used; mend or remove them", bad, "sound")] if bad else [])
    return rows


@dataclass(frozen=True)
class _Asked:
    """The files to classify, each once; those below folders that are none by their names; what is named and is not
    there.
    """

    wanted: list[Path]
    others: list[Path]
    absent: list[str]


def _refuse(asked: _Asked, noun: str, said: list[str]) -> None:
    """DataError with what is said already and what was not classified, if there is any."""
    if asked.absent:
        said.append(_listed("are not there", asked.absent, "name"))
    if asked.others:
        said.append(_left_out(asked.others, noun))
    if said:
        raise DataError("\n".join(said))


def _asked(noun: str, asked: Any, endings: Collection[str]) -> _Asked:
    """What is asked for by a key that is called as several of the noun. DataError where nothing is there."""
    given = [str(word) for word in asked] if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
    if not given or not all(isinstance(word, str) and word for word in given):
        raise must(f"{noun}s", f"a file, a folder of {noun}s, a pattern, or a list of such", asked)
    found: dict[Path, None] = {}
    others: dict[Path, None] = {}
    absent: list[str] = []
    for word in given:
        with reading(word):
            listings = list(_listings(noun, word, endings))
        for listing in listings:
            found |= dict.fromkeys(listing.wanted)
            others |= dict.fromkeys(listing.others)
        if not listings:
            absent.append(shown(word))
    if not found:
        what = "which fits no file" if set("*?[") & set(given[0]) else "which does not exist"
        raise DataError(f"{noun}s must be a file or a folder of {noun}s, got {given[0]!r}, {what}.")
    return _Asked(list(found), list(others), absent)


def _listings(noun: str, word: str, endings: Collection[str]) -> Iterator[Listing]:
    """The file itself, whatever its name; what lies below a folder; what a pattern fits, if anything."""
    path = Path(word)
    if path.is_dir():
        listing = files_below(path, endings)
        if not listing.wanted:
            wanted = f"{noun}s must be a folder that holds {noun}s ({', '.join(sorted(endings))}), got {word!r}."
            raise DataError("\n".join([wanted, *([_left_out(listing.others, noun)] if listing.others else [])]))
        yield listing
    elif path.exists():
        yield Listing([path], [])
    else:
        for each in sorted(Path(name) for name in glob(word, recursive=True)):
            yield files_below(each, endings) if each.is_dir() else Listing([each], [])


def _tell(rows: list[dict[str, Any]], form: str) -> None:
    if not rows:
        return
    if form == "json":
        answer(json.dumps(rows, indent=2))
    else:
        write_csv(sys.stdout, ("file", "class", "probability"), rows)


def _listed(what: str, lines: Sequence[Any], noun: str) -> str:
    return f"{len(lines)} {noun}(s) {what}:" + "".join(f"\n  {line}" for line in lines)


def _left_out(others: Sequence[Path], noun: str) -> str:
    return _listed(f"are no {noun}s by their names, and are not classified", others, "file")
