"""`kd predict`: a stored model's answers for image files."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from kd_cli.datasets.image_folder import EXTENSIONS, decode
from kd_cli.device import find_device
from kd_cli.errors import DataError
from kd_cli.prediction import evaluation_batch
from kd_cli.stages.stored import load


def main(cfg: DictConfig) -> list[dict[str, Any]]:
    """Prints file, class and probability on standard output, as CSV or JSON, a row for each image."""
    device = find_device(cfg.device)
    loaded = load(cfg.path, list(cfg.trusted_modules))
    channels, height, width = loaded.input_shape
    model, rows, bad = loaded.model.to(device), [], []
    paths, at_once = _images(Path(cfg.images)), evaluation_batch(loaded.input_shape)
    for start in range(0, len(paths), at_once):
        batch = []
        for path in paths[start : start + at_once]:
            try:
                batch.append((path, decode(path, (height, width), channels)))
            except (OSError, ValueError, SyntaxError) as error:
                bad.append(f"{path}: {error}")
        if not batch or bad:
            continue
        with torch.inference_mode():
            images = torch.stack([image for _, image in batch]).to(device).float() / 255
            probabilities, classes = model(images).float().softmax(1).max(1)
        rows += [
            {"file": str(path), "class": loaded.classes[k], "probability": round(p, 6)}
            for (path, _), k, p in zip(batch, classes.tolist(), probabilities.tolist(), strict=True)
        ]
    if bad:
        raise DataError(f"{len(bad)} image(s) cannot be decoded; mend or remove them:\n  " + "\n  ".join(bad))
    if cfg.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        writer = csv.DictWriter(sys.stdout, ["file", "class", "probability"])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _images(path: Path) -> list[Path]:
    """The file itself, or every image below a folder, sorted."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"images must be a file or a folder of images, got {str(path)!r}, which does not exist.")
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
    if not found:
        raise DataError(
            f"images must be a folder that holds images ({', '.join(sorted(EXTENSIONS))}), got {str(path)!r}."
        )
    return found
