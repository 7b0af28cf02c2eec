"""Fitting a model and storing it: the one way that teachers, students and baselines come into the store."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_model
from torch import nn

from kd_cli.build.identity import plain
from kd_cli.errors import TrainingError
from kd_cli.files.digests import digest_of
from kd_cli.files.disk import only, written
from kd_cli.progress import log, task
from kd_cli.runs.run import Run
from kd_cli.store.artifacts import Artifact, Use
from kd_cli.store.models import not_numbers
from kd_cli.train.batch_statistics import describe, settle
from kd_cli.train.batches import Batches
from kd_cli.train.checkpoint import FILE, Checkpoint
from kd_cli.train.fit import Objective, fit
from kd_cli.train.recipe import Recipe


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
    use: Use,
) -> Artifact:
    """Fits `model`, which the config `node` describes, and writes it below `kind`. `title` names it in the progress;
    `key` is where its recipe stands, `use` what it is made for.
    """

    with ExitStack() as ends:

        def fill(folder: Path) -> dict[str, Any]:
            steps, every = len(batches), run.cfg.checkpoint
            checkpoint = Checkpoint(
                folder,
                title,
                recipe.epochs,
                every.every_epochs,
                every.every_minutes,
                run.environment(recipe.precision),
                digest_of(identity),
            )
            ends.enter_context(checkpoint.hold)  # from here on until the artifact stands
            with written(folder):
                only(folder, [FILE])
            with task(title, "epoch", recipe.epochs) as progress:

                def on_epoch(record: dict[str, float]) -> None:
                    checkpoint.note(record)
                    progress.finish(int(record["epoch"]), record)

                def on_step(epoch: int, step: int) -> None:
                    progress.move(epoch + (step + 1) / steps)

                with kept(checkpoint, key):
                    validation = run.dataset.validation
                    precision = fit(
                        model, batches, objective, recipe, validation, run.cfg.compile, checkpoint, on_step, on_epoch
                    )
                    about = settle(model, batches, recipe.epochs - 1, recipe.batch_statistics)
                    check_numbers(model)  # of statistics as well: they may just have been mended
            if about is not None and (said := describe(about)):
                log.info("%s: %s", title, said)
            notes = write_model(run, folder, identity, model, node, precision)
            return notes if about is None else {**notes, "batch_statistics": about}

        return run.store.write(kind, identity, fill, use)


@contextmanager
def kept(checkpoint: Checkpoint, key: str) -> Iterator[None]:
    """Around a training: says what remains of it where it breaks off. `key` is where its recipe stands."""
    try:
        yield
    except TrainingError as error:
        checkpoint.forget()
        raise TrainingError(str(error).replace(" train.", f" {key}.train.")) from error
    except (Exception, KeyboardInterrupt) as error:
        how = "interrupted" if isinstance(error, KeyboardInterrupt) else "broken off"
        log.info("%s: %s, %s", checkpoint.title, how, f"kept {checkpoint.kept}" if checkpoint.kept else "not kept")
        raise


def check_numbers(model: nn.Module) -> None:
    """TrainingError where the last steps have left weights that are no numbers, which no epoch's loss shows."""
    if name := next(not_numbers(model.state_dict(), dict(model.named_parameters())), None):
        raise TrainingError(
            f"The weights in {name} are no numbers after the last epoch. "
            "Try a lower train.optimizer.lr, train.clip=1 or train.precision=32."
        )


def write_model(
    run: Run, folder: Path, identity: dict[str, Any], model: nn.Module, node: Any, precision: str
) -> dict[str, Any]:
    """Writes weights and config into an artifact's folder; returns what the manifest says of the circumstances."""
    about = {
        "model": plain(node),
        "classes": list(run.dataset.classes),
        "spec": run.dataset.spec.stored(),
        "dataset": run.dataset_node(),
        "identity": identity,
    }
    about = json.loads(json.dumps(about))  # a stored config has no aliases
    config = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
    with written(folder):
        save_model(model, str(folder / "model.safetensors"))
        (folder / "config.yaml").write_text(config, encoding="utf-8")
    return {"environment": run.environment(precision)}
