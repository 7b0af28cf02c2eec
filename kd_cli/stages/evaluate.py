"""`kd evaluate`: a stored model's figures on one split of its data set."""

import json
import sys
from inspect import signature
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from kd_cli.device import find_device
from kd_cli.errors import ArtifactError, DataError, must
from kd_cli.evaluation import evaluate
from kd_cli.report import print_figures
from kd_cli.screen import answer, override, write_csv
from kd_cli.stages.compose import DATASETS, build_dataset, check_stored
from kd_cli.stages.stored import load


def main(cfg: DictConfig) -> dict[str, Any]:
    """Prints the figures on standard output, as a table, JSON or CSV."""
    device = find_device(cfg.device)
    loaded = load(cfg.path, list(cfg.trusted_modules))
    if cfg.dataset is not None:
        node: Any = cfg.dataset
    else:
        stored = loaded.config.get("dataset")
        where = loaded.folder / "config.yaml"
        if not isinstance(stored, dict):
            raise ArtifactError(f"{where} names no data set. Give one: dataset=<name> dataset.root=<folder>.")
        check_stored(stored, list(cfg.trusted_modules), where, DATASETS)
        target = stored.get("_target_")
        downloads = target is not None and "download" in signature(get_object(target)).parameters
        node = OmegaConf.create({**stored, **({"download": False} if downloads else {})})
    dataset = build_dataset(node)
    if dataset.classes != loaded.classes or dataset.input_shape != loaded.input_shape:
        raise ArtifactError(
            f"path must be a model for dataset={dataset.name} ({len(dataset.classes)} classes, input "
            f"{list(dataset.input_shape)}), got {cfg.path!r} ({len(loaded.classes)} classes, input "
            f"{list(loaded.input_shape)})."
        )
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "transfer", "test")}
    if cfg.split not in splits:
        raise must("split", f"one of {', '.join(splits)}", cfg.split)
    split = splits[cfg.split]
    if split is None:
        raise DataError(
            f"split={cfg.split}: {dataset.name} has none. "
            f"Set {override('dataset', dataset.name)} dataset.validation=0.1."
        )
    if split.labelled < len(split):
        raise DataError(f"split={cfg.split}: {len(split) - split.labelled} of its {len(split)} images have no label.")
    figures = evaluate(loaded.model, split, dataset.classes, device).figures
    judged = {"path": str(loaded.folder), "dataset": dataset.name, "split": cfg.split, **figures}
    if cfg.format == "json":
        answer(json.dumps(judged, indent=2))
    elif cfg.format == "csv":
        flat = {k: v for k, v in judged.items() if not isinstance(v, dict)}
        flat |= {f"latency_ms_{size}": value for size, value in figures["latency_ms"].items()}
        write_csv(sys.stdout, list(flat), [flat])
    else:
        print_figures(judged)
    return judged
