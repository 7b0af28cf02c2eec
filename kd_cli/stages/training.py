"""Fitting a model and storing it: the one way that teachers, students and baselines come into the store."""

import json
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_model
from torch import nn

from kd_cli.artifacts import Artifact
from kd_cli.batch_statistics import describe, settle
from kd_cli.checkpoint import HISTORY, Checkpoint
from kd_cli.engine import Batches, Objective, Recipe, fit
from kd_cli.errors import TrainingError
from kd_cli.progress import log, task
from kd_cli.stages.compose import plain
from kd_cli.stages.run import Run


def train_and_store(
    run: Run,
    kind: str,
    key: str,
    identity: dict[str, Any],
    title: str,
    model: nn.Module,
    node: Any,
    batches: Batches,
    objective: Objective,
    recipe: Recipe,
) -> Artifact:
    """Fits `model`, which the config `node` describes, and writes it below `kind`. `title` names it in the progress;
    `key` is where its recipe stands.
    """

    def fill(folder: Path) -> dict[str, Any]:
        steps, every = len(batches), run.cfg.checkpoint
        checkpoint = Checkpoint(
            folder, title, recipe.epochs, every.every_epochs, every.every_minutes, run.environment(recipe.precision)
        )
        with (
            (folder / HISTORY).open("a", buffering=1, encoding="utf-8") as history,
            task(title, "epoch", recipe.epochs) as progress,
        ):

            def on_epoch(record: dict[str, float]) -> None:
                history.write(json.dumps(record) + "\n")
                progress.finish(int(record["epoch"]), record)

            def on_step(epoch: int, step: int) -> None:
                progress.move(epoch + (step + 1) / steps)

            try:
                validation = run.dataset.validation
                precision = fit(
                    model, batches, objective, recipe, validation, run.cfg.compile, checkpoint, on_step, on_epoch
                )
                about = settle(model, batches, recipe.epochs - 1, recipe.batch_statistics)
            except KeyboardInterrupt:
                log.info("%s: interrupted, %s", title, f"kept {checkpoint.kept}" if checkpoint.kept else "not kept")
                raise
            except TrainingError as error:
                checkpoint.forget()
                raise TrainingError(str(error).replace(" train.", f" {key}.train.")) from error
        if about is not None and (said := describe(about)):
            log.info("%s: %s", title, said)
        notes = write_model(run, folder, identity, model, node, precision)
        return notes if about is None else {**notes, "batch_statistics": about}

    return run.store.write(kind, identity, fill)


def write_model(
    run: Run, folder: Path, identity: dict[str, Any], model: nn.Module, node: Any, precision: str
) -> dict[str, Any]:
    """Writes weights and config into an artifact's folder; returns what the manifest says of the circumstances."""
    save_model(model, str(folder / "model.safetensors"))
    about = {
        "model": plain(node),
        "classes": list(run.dataset.classes),
        "input_shape": list(run.dataset.input_shape),
        "dataset": run.dataset_node(),
        "identity": identity,
    }
    about = json.loads(json.dumps(about))  # a stored config has no aliases
    (folder / "config.yaml").write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return {"environment": run.environment(precision)}
