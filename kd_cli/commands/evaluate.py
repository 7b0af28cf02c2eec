"""`kd evaluate`: a stored model's figures on one split of its data set."""

import json
import sys
from inspect import signature
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from kd_cli.build.objects import build_dataset
from kd_cli.build.trust import DATASETS, check_stored
from kd_cli.device import find_device
from kd_cli.errors import ArtifactError, DataError, must
from kd_cli.files import typed_json
from kd_cli.measure.evaluation import evaluate
from kd_cli.report.models_table import print_figures
from kd_cli.runs.result import Result
from kd_cli.screen import answer, say, write_csv
from kd_cli.store.artifacts import Artifact, read_artifact
from kd_cli.store.models import Loaded, load
from kd_cli.store.run_folder import RESULT


def main(cfg: DictConfig) -> dict[str, Any]:
    """Prints the figures on standard output, as a table, JSON or CSV."""
    device = find_device(cfg.device)
    loaded = load(cfg.path, list(cfg.trusted_modules))
    node, fingerprint = _data(cfg, loaded)
    dataset = build_dataset(node)
    if dataset.classes != loaded.classes or dataset.spec != loaded.spec:
        raise ArtifactError(
            f"path must be a model for dataset={dataset.name} ({len(dataset.classes)} classes, "
            f"{dataset.spec}), got {cfg.path!r} ({len(loaded.classes)} classes, {loaded.spec})."
        )
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "transfer", "test")}
    if cfg.split not in splits:
        raise must("split", f"one of {', '.join(splits)}", cfg.split)
    split = splits[cfg.split]
    if split is None:
        raise DataError(f"split={cfg.split}: {dataset.name} has none. Set dataset.validation=0.1.")
    if split.labelled < len(split):
        missing = f"{len(split) - split.labelled} of its {len(split)} {dataset.spec.noun}"
        raise DataError(f"split={cfg.split}: {missing} have no label.")
    if fingerprint not in (None, dataset.fingerprint):
        say(f"These are not the data of {cfg.path}: {dataset.spec.noun}, labels or splits differ.")
    figures = evaluate(loaded.model, split, dataset.classes, device, latency=cfg.evaluate.latency).measured
    told = {key: value for key, value in typed_json.to_json(figures).items() if key != "artifact"}  # it is the path
    judged = {"path": str(loaded.folder), "dataset": dataset.name, "split": cfg.split, **told}
    judged["dataset_fingerprint"] = dataset.fingerprint
    if cfg.format == "json":
        answer(json.dumps(judged, indent=2))
    elif cfg.format == "csv":
        flat = {k: v for k, v in judged.items() if not isinstance(v, dict)}
        flat.pop("latency_ms", None)
        flat |= {f"latency_ms_{size}": value for size, value in (judged["latency_ms"] or {}).items()}
        write_csv(sys.stdout, list(flat), [flat])
    else:
        print_figures(figures, str(loaded.folder), dataset.name, cfg.split)
    return judged


def _data(cfg: DictConfig, loaded: Loaded) -> tuple[Any, Any]:
    """The data set: the one that was typed, or that of the run, else of the model; single keys that were typed replace
    its own. With the fingerprint that it had then, None where nobody knows.

    Models are shared by runs whose test splits differ, so that a run says which data it judged on.
    """
    path = Path(cfg.path)
    run = Result.read(path) if loaded.folder != path else None
    where, stored = loaded.folder / "config.yaml", loaded.config.get("dataset")
    if run is None:
        fingerprint = _fingerprint(read_artifact(loaded.folder))
    else:
        fingerprint = run.environment.dataset_fingerprint if run.environment else None
        if run.data is not None:
            where, stored = path / RESULT, run.data
    if "_target_" in cfg.dataset:
        return cfg.dataset, fingerprint
    if not isinstance(stored, dict):
        raise ArtifactError(f"{where} names no data set. Give one: dataset=<name> dataset.root=<folder>.")
    try:
        check_stored(stored, list(cfg.trusted_modules), where, DATASETS)
        target = stored.get("_target_")
        downloads = target is not None and "download" in signature(get_object(target)).parameters
        return OmegaConf.merge({**stored, **({"download": False} if downloads else {})}, cfg.dataset), fingerprint
    except RecursionError:
        raise ArtifactError(f"{where} describes no data set: it is nested too deeply.") from None


def _fingerprint(artifact: Artifact) -> str | None:
    environment = artifact.manifest.get("environment")
    return environment.get("dataset_fingerprint") if isinstance(environment, dict) else None
