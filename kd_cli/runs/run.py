"""One run: its data, device, store and folder."""

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from torch import nn

import kd_cli
from kd_cli.build import own_code
from kd_cli.build.family import strangers
from kd_cli.build.identity import plain
from kd_cli.build.objects import build_dataset
from kd_cli.cli.job import Sweep, asked
from kd_cli.data.samples import Dataset
from kd_cli.device import device_name, find_device, instructions, take_turns
from kd_cli.errors import ConfigError, must
from kd_cli.measure.evaluation import Evaluation, evaluate
from kd_cli.report.run import show
from kd_cli.runs.result import Result
from kd_cli.screen import as_utf8, override
from kd_cli.steps.recipes import starts
from kd_cli.store import run_folder
from kd_cli.store.artifacts import Artifact, Store
from kd_cli.store.inventory import KINDS, note_use, settled
from kd_cli.store.models import precision_of

Value = TypeVar("Value")
log = logging.getLogger("kd")


def shared(key: Any, make: Callable[[], Value]) -> Value:
    """What `make` gives: in a sweep, whose jobs run in one process, it is made once."""
    if Sweep.shared is None:
        return make()
    name = json.dumps(key)
    if name not in Sweep.shared:
        Sweep.shared[name] = make()
    value: Value = Sweep.shared[name]
    return value


def dataset_of(config: DictConfig, key: str = "dataset", may_download: bool = True) -> Dataset:
    """The data set that the node `key` describes."""
    node = plain(config)
    content = {name: value for name, value in node.items() if name != "download"}
    if "download" in node and not may_download:
        node = {**content, "download": False}
    dataset: Dataset = shared(["dataset", content], lambda: build_dataset(OmegaConf.create(node), key))
    return dataset


class Run:
    """What the stages of a run share. Constructing it loads the data."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        context = HydraConfig.get()
        if Sweep.shared is None and context.mode == RunMode.MULTIRUN:  # in a launcher's worker, beside others
            take_turns(OmegaConf.select(context, "job.num", throw_on_missing=False))  # not every launcher counts
        self.device = find_device(cfg.device)
        self.root = Path(cfg.output_dir).absolute()
        if any("\ud800" <= letter <= "\udfff" for letter in as_utf8(str(self.root))):
            hint = "Files of tensors cannot be opened elsewhere: give another output_dir=<folder>."
            raise must("output_dir", "a folder whose whole path is UTF-8", str(self.root), hint)
        self.store = Store(self.root, cfg.rebuild, self.uses)
        self.used: list[str] = []
        self.stages: dict[str, dict[str, Any]] = {}
        self.precision: dict[str, str] = {}  # of each stage, as it was computed
        self.identities: dict[str, str] = {}  # of what each stage gave or was given
        self.folder = Path(HydraConfig.get().runtime.output_dir)
        self.dataset = dataset_of(cfg.dataset)
        if len(self.dataset.test) == 0:
            hint = f"As a transfer set, unlabelled: {override('transfer.dataset', self.dataset.name)}."
            raise must("dataset", "one with labels and test images", self.dataset.name, hint)

    def evaluate(self, model: nn.Module, identity: Any, reference: Evaluation | None = None) -> Evaluation:
        """The figures on the test split of a model that `identity` determines; the student's beside its teacher's."""

        def judge() -> Evaluation:
            logits = reference.logits if reference else None
            return evaluate(model, self.dataset.test, self.dataset.classes, self.device, logits)

        return judge() if reference else shared(["evaluation", identity, self.dataset.fingerprint], judge)

    def accept(self) -> None:
        """Everything that was typed has been checked: from now on a failure is a failed run, not a wrong input."""
        elsewhere = not self.folder.resolve().is_relative_to(self.root.resolve())
        where = {"output_dir": str(self.root)} if elsewhere else {}  # else all of it may be moved together
        run_folder.begin(self.folder, asked(self.cfg) | {"data": self.dataset_node()} | where)
        for key, begun_from in starts(self.cfg).items():
            self.uses(begun_from.folder)
            self.identities[key] = begun_from.content
        own_code.say()
        for sentence in strangers(self.cfg):
            log.info(sentence)

    def finish(self, result: dict[str, Any]) -> None:
        """The run has done all that was asked."""
        run_folder.update(
            self.folder, {**result, "stages": self.stages, "identities": self.identities, "status": "completed"}
        )
        show(Result.of(run_folder.read(self.folder) or {}), in_sweep=HydraConfig.get().mode == RunMode.MULTIRUN)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[Artifact | str | None, bool], None]]:
        """Times a stage; the caller says which artifact it gave (or the name of a teacher from elsewhere), and
        whether that was there already.
        """
        started = time.perf_counter()
        entry: dict[str, Any] = {"seconds": 0.0, "cached": False, "artifact": None}
        self.stages[name] = entry

        def done(artifact: Artifact | str | None, cached: bool) -> None:
            if not isinstance(artifact, Artifact):
                entry.update(cached=cached, artifact=artifact)
                return
            entry.update(cached=cached, artifact=self.name(artifact.folder))
            self.identities[name] = artifact.content
            if about := artifact.manifest.get("batch_statistics"):
                entry["batch_statistics"] = about
            self.precision[name] = precision_of(artifact)

        yield done
        entry["seconds"] = round(time.perf_counter() - started, 3)
        run_folder.update(self.folder, {"stages": self.stages})
        if entry["artifact"]:
            how = "found in" if entry["cached"] else f"done in {entry['seconds']:.1f} s:"
            inside = self.root / entry["artifact"]
            where = os.path.relpath(inside) if inside.exists() else entry["artifact"]
            log.info("%s: %s %s", name.replace("_", " "), how, where)

    def uses(self, folder: Path) -> None:
        """Says in result.json that the run uses an artifact, before it is looked for: `kd clean` then keeps it. Where
        the run's folder lies elsewhere, the artifact's output folder is told.
        """
        name, kind, store = self.name(folder), folder.parent.name, folder.absolute().parent.parent
        if name in self.used:
            return
        self.used.append(name)
        kept_there = store == self.root or kind in KINDS  # else somebody's folder, where kd has nothing to leave
        try:
            with settled(store) if kept_there else nullcontext():
                run_folder.update(self.folder, {"artifacts": self.used})
                if kept_there and not self.folder.resolve().is_relative_to(store.resolve()):
                    note_use(store, self.folder.resolve(), self.used)
        except ConfigError as error:
            if store == self.root:
                raise
            run_folder.update(self.folder, {"artifacts": self.used})
            log.info("%s is used by this run, but that cannot be noted there: %s", name, error)

    def name(self, folder: Path) -> str:
        """A folder as result.json names it: below the output folder where it is there, in full elsewhere."""
        folder = folder.absolute()
        return folder.relative_to(self.root).as_posix() if folder.is_relative_to(self.root) else str(folder)

    def dataset_node(self) -> dict[str, Any]:
        """The data set's config, its root absolute, so that a stored model can be evaluated from anywhere."""
        node: dict[str, Any] = plain(self.cfg.dataset)
        return {**node, "root": str(Path(node["root"]).absolute())} if "root" in node else node

    def environment(self, precision: str) -> dict[str, Any]:
        """What explains a result without determining its identity."""
        return {
            "device": self.device.type,
            "device_name": device_name(self.device),
            "instructions": instructions(self.device),
            "precision": precision,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "kd": kd_cli.__version__,
            "python": platform.python_version(),
            "dataset_fingerprint": self.dataset.fingerprint,
        }
