"""Fitting a model and storing it: the one way that teachers, students and baselines come into the store."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from kd_cli.build.identity import Described
from kd_cli.data.samples import Dataset
from kd_cli.errors import TrainingError, under
from kd_cli.files.digests import digest_of
from kd_cli.files.disk import only, written
from kd_cli.progress import log, task
from kd_cli.runs.circumstances import Circumstances
from kd_cli.steps.setting import Setting
from kd_cli.store.artifacts import Artifact
from kd_cli.store.models import largest_of, load_trained, not_numbers
from kd_cli.store.tensor_digest import IN_TORCH
from kd_cli.train.batch_statistics import describe, settle
from kd_cli.train.batches import Batches
from kd_cli.train.checkpoint import FILE, Checkpoint
from kd_cli.train.fit import Objective, fit
from kd_cli.train.recipe import Recipe
from kd_cli.train.watch import Bar, History, Watches


@dataclass(frozen=True)
class TrainedModel:
    """The step that fits a `network` in place and stores it in `kind`, or fills it with the weights that are stored.

    `stage` names it in the run, `key` is where its recipe stands in the config. `dataset` is what it sees: a specialist
    has classes of its own. `objective.config` says in a word or in full what it learns by.
    """

    kind: str
    stage: str
    key: str
    network: nn.Module
    config: Any  # that the network was built from
    dataset: Dataset
    batches: Batches
    objective: Described[Objective]
    recipe: Recipe
    identity: dict[str, Any]
    setting: Setting
    deps: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its network, the number of its classes and what it learnt by."""
        return title_of(self.config, len(self.dataset.classes), self.objective.config)

    @property
    def largest(self) -> int:
        """See `Step`."""
        return largest_of(self.network)

    def make(self, folder: Path, ends: ExitStack) -> dict[str, Any]:
        """Fit the network, or go on where an earlier attempt in `folder` stopped, and write it."""
        model, batches, recipe = self.network, self.batches, self.recipe
        circumstances, title = self.setting.circumstances, self.stage.replace("_", " ")
        checkpoint = checkpoint_in(folder, title, recipe, self.identity, circumstances)
        ends.enter_context(checkpoint.hold)  # from here on until the artifact stands
        with written(folder):
            only(folder, [FILE])
        with task(title, "epoch", recipe.epochs) as progress, kept(checkpoint, self.key):
            watch, objective = Watches(History(folder), Bar(progress, len(batches))), self.objective.built
            validation, compiled = self.dataset.validation, circumstances.compile
            devices = circumstances.devices
            precision = fit(model, batches, objective, recipe, validation, compiled, checkpoint, watch, devices)
            about = settle(model, batches, recipe.epochs - 1, recipe.batch_statistics)
            check_weights(model)  # of statistics as well: they may just have been mended
        if about is not None and (said := describe(about)):
            log.info("%s: %s", title, said)
        write_model(folder, self.identity, model, self.config, self.dataset, self.setting.dataset_config)
        notes = {"environment": circumstances.environment(precision)}
        return notes if about is None else {**notes, "batch_statistics": about}

    def load(self, artifact: Artifact) -> None:
        """Fill the network with stored weights."""
        load_trained(self.network, artifact)


def title_of(config: Any, classes: int, objective: Any) -> str:
    """Return what a model is in a few words: `mlp, 10 classes, Hinton`."""
    how = objective if isinstance(objective, str) else str(objective["_target_"]).rpartition(".")[2]
    return f"{str(config['_target_']).rpartition('.')[2]}, {classes} classes, {how}"


def checkpoint_in(folder: Path, title: str, recipe: Recipe, identity: Any, circumstances: Circumstances) -> Checkpoint:
    """Return the checkpoint of a training whose unfinished artifact is `folder`."""
    return Checkpoint(
        folder,
        title,
        recipe.epochs,
        circumstances.every_epochs,
        circumstances.every_minutes,
        circumstances.environment(recipe.precision),
        digest_of(identity),
    )


@contextmanager
def kept(checkpoint: Checkpoint, key: str) -> Iterator[None]:
    """Around a training: say what remains of it where it breaks off. `key` is where its recipe stands."""
    try:
        with under(key):
            yield
    except TrainingError:
        checkpoint.forget()
        raise
    except (Exception, KeyboardInterrupt) as error:
        how = "interrupted" if isinstance(error, KeyboardInterrupt) else "broken off"
        log.info("%s: %s, %s", checkpoint.title, how, f"kept {checkpoint.kept}" if checkpoint.kept else "not kept")
        raise


def check_weights(model: nn.Module) -> None:
    """Raise TrainingError where the last steps have left weights that are no numbers, which no epoch's loss shows."""
    if name := next(not_numbers(model.state_dict(), dict(model.named_parameters())), None):
        raise TrainingError(f"The weights in {name} are no numbers after the last epoch.", *TrainingError.CALMER)


def write_model(
    folder: Path, identity: dict[str, Any], model: nn.Module, config: Any, dataset: Dataset, dataset_config: Any
) -> None:
    """Write weights and config into an artifact's folder."""
    about = {
        "model": config,
        "classes": list(dataset.classes),
        "spec": dataset.spec.stored(),
        "dataset": dataset_config,
        "identity": identity,
    }
    text = yaml.safe_dump(json.loads(json.dumps(about)), sort_keys=False, allow_unicode=True)  # no aliases
    with written(folder):
        save_file(_each_once(model), folder / "model.safetensors", metadata=IN_TORCH)
        (folder / "config.yaml").write_text(text, encoding="utf-8")


def _each_once(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network by name, of tied ones the first by its name."""
    found: dict[Any, tuple[str, Tensor]] = {}
    for name, value in sorted(model.state_dict().items()):
        found.setdefault((value.data_ptr(), value.shape, value.stride()) if value.numel() else name, (name, value))
    return {name: value.contiguous() for name, value in found.values()}
