"""Stage 2: the teacher's logits over the transfer set, dumped once."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kd_cli.errors import ArtifactError, KdError, first_line
from kd_cli.files.digests import digest_of, digests_of, sealed, unsealed
from kd_cli.files.disk import only, written
from kd_cli.measure.flops import work_of
from kd_cli.measure.prediction import EVALUATION_BATCH
from kd_cli.progress import log, task
from kd_cli.steps.setting import Setting
from kd_cli.steps.transfer import TransferSet
from kd_cli.store.artifacts import CHECKPOINT, Artifact, whole_file
from kd_cli.store.models import precision_of
from kd_cli.targets.batch_size import LARGEST, fastest_batch, out_of_memory
from kd_cli.targets.soft_targets import DTYPES, SoftTargets, Storage, write_targets
from kd_cli.teachers.sound import check_numbers, check_range
from kd_cli.teachers.teacher import Teacher
from kd_cli.train.memory_format import LAYOUTS, chosen_memory_format

VERSION = 2  # raised whenever kd computes other logits from the same teacher and transfer set

HEADER = 1 << 12  # bytes of a view's file beside its rows
THREADS = 1 << 10  # an earlier attempt can have had
SHARD = re.compile(r"logits-\d{5,}\.safetensors")


@dataclass(frozen=True)
class Dump:
    """The step that stores the logits of a teacher of one network over the transfer set's views.

    What was loaded is the last of `opened`; a student reads it at `temperature`.
    """

    stage: str
    teacher: Teacher
    transfer: TransferSet
    stored_as: Storage
    temperature: float | None
    setting: Setting
    opened: list[SoftTargets] = field(default_factory=list)
    kind: str = "soft_targets"

    @property
    def identity(self) -> dict[str, Any]:
        """All that determines the logits."""
        return targets_identity(self.teacher.identity, self.transfer, self.stored_as)

    @property
    def deps(self) -> tuple[str, ...]:
        """The teacher's artifact, if it is one."""
        return () if self.teacher.name is None or self.teacher.network is None else (self.teacher.name,)

    @property
    def title(self) -> str:
        """The form of the logits."""
        return f"{len(self.transfer.split):,} samples × {self._views} views × {self._classes} classes"

    @property
    def largest(self) -> int:
        """See `Step`."""
        rows = len(self.transfer.split) * (self._views * (self.stored_as.row_bytes(self._classes) + 1) + 16)
        return rows + (self._views + 1) * HEADER

    @property
    def _views(self) -> int:
        return self.transfer.views or 1

    @property
    def _classes(self) -> int:
        return len(self.setting.dataset.classes)

    def make(self, folder: Path, ends: ExitStack) -> dict[str, Any]:
        """Compute the logits, or go on where an earlier attempt stopped, view by view."""
        how = _dump(self, folder)
        about = {"samples": len(self.transfer.split), "views": self._views, "classes": self._classes}
        if self.teacher.network is None and (untold := _untold(folder)):
            about["untold"] = untold
        return {**how, **about, "temperatures": list(self.stored_as.temperatures), "teacher": self.teacher.name}

    def load(self, artifact: Artifact) -> None:
        """Open the stored logits, and compare them with what the teacher says now of some samples."""
        precision_of(artifact)
        stored, split = SoftTargets(artifact, self.setting.device, self.temperature), self.transfer.split
        if len(stored.views) != self._views:
            raise ArtifactError(f"{artifact.folder} holds {len(stored.views)} views instead of {self._views}.")
        teacher, transfer = self.teacher, self.transfer
        self._expect_answers(stored, artifact)

        def now(view: int, positions: Tensor) -> Tensor:
            return teacher.predict(split, self.setting.device, transfer.augment, transfer.seed, view, positions)

        stored.check(split, now if teacher.free else None)
        self.opened.append(stored)

    def _expect_answers(self, stored: SoftTargets, artifact: Artifact) -> None:
        """Refuse targets that lack more answers than are allowed now."""
        rows, answering = len(self.transfer.split) * self._views, self.teacher.answering
        if stored.untold and (answering is None or int(artifact.manifest["untold"]) > answering.allowed * rows):
            allowed = 0 if answering is None else answering.allowed
            lacks = f"lacks {artifact.manifest['untold']} of {rows:,} answers, and teacher.allow_missing={allowed:g}"
            raise ArtifactError(f"{artifact.folder} {lacks}.")


def _untold(folder: Path) -> int:
    """How many rows of the views in `folder` have no answer."""
    shards = (load_file(path)["logits"] for path in folder.glob("logits-*.safetensors"))
    return sum(int(logits[:, 0].isnan().sum()) for logits in shards)


def targets_identity(teacher: dict[str, Any], transfer: TransferSet, stored_as: Storage) -> dict[str, Any]:
    """Return all that determines the stored logits of the teacher with the identity `teacher`."""
    about = {"stage": "soft_targets", "version": VERSION, "teacher": teacher, "transfer": transfer.identity}
    return {**about, **stored_as.identity}


def _dump(step: Dump, folder: Path) -> dict[str, Any]:
    """Writes what `folder` lacks of the teacher's logits; returns how they were computed.

    `checkpoint.json` holds that from the first view on, with the digest of each: an attempt that goes on computes as
    the one before it. Batch size, layout and threads are no part of the identity, they move last bits only. What was
    begun with another device, torch or kd is begun anew.
    """
    transfer, stored_as, setting = step.transfer, step.stored_as, step.setting
    split, views, checkpoint = transfer.split, transfer.views or 1, folder / f"{CHECKPOINT}json"
    network, environment = step.teacher.network, setting.circumstances.environment("32")
    how = _begun(folder, checkpoint, {"identity": digest_of(step.identity), "environment": environment})
    if how["shards"]:
        log.info("soft targets: going on after %d of %d views", len(how["shards"]), views)

    def rows(view: int, positions: Tensor, batch_size: int) -> Iterator[Tensor]:
        seen = (transfer.augment, transfer.seed, view, positions, batch_size)
        return step.teacher.predictions(split, setting.device, *seen)

    def seconds(images: int) -> float:
        started = time.perf_counter()
        list(rows(0, torch.arange(images) % len(split), images))
        return time.perf_counter() - started

    if network is None:
        how |= {"memory_format": "contiguous", "batch_size": EVALUATION_BATCH}  # nothing is computed here
    elif "memory_format" not in how:
        convolutions = work_of(network, setting.dataset.spec).convolutions
        how["memory_format"] = chosen_memory_format(step.teacher.memory_format, convolutions)
    with _laid_out(network, LAYOUTS[how["memory_format"]]), _threads(how["environment"]["threads"]):
        if "batch_size" not in how:
            how["batch_size"] = fastest_batch(seconds, len(split) * views)
        with task("soft targets", "view", views) as progress:

            def of_view(view: int) -> Iterator[Tensor]:
                done = 0
                while done < len(split):
                    try:
                        for block in rows(view, torch.arange(done, len(split)), how["batch_size"]):
                            done += len(block)
                            progress.move(view + done / len(split))
                            try:
                                told = block if network is not None else block[~block.isnan().all(1)]
                                check_numbers(told, network, "The teacher", split.samples.spec.noun)
                                check_range(told, DTYPES[stored_as.dtype])
                            except KdError:  # nobody can go on from what cannot be stored
                                checkpoint.unlink(missing_ok=True)
                                raise
                            yield block
                    except RuntimeError as error:
                        if not out_of_memory(error) or how["batch_size"] == 1:
                            raise
                        how["batch_size"] //= 2
                        log.info("soft targets: out of memory, going on with batches of %d", how["batch_size"])
                progress.finish(view + 1, {})

            def note(name: str, shard: Path) -> None:
                how["shards"][name] = digests_of([shard], "checksums")[shard.name]
                with whole_file(checkpoint) as working:
                    working.write_text(sealed(how), encoding="utf-8")

            write_targets(folder, of_view, split, views, stored_as, note)
    return {key: how[key] for key in ("environment", "memory_format", "batch_size")}


def _begun(folder: Path, checkpoint: Path, now: dict[str, Any]) -> dict[str, Any]:
    """How an earlier attempt computed, if this one is to go on as it did, and the views that it has left whole; of the
    rest nothing is left in `folder`.
    """
    how, shards = {}, {}
    if checkpoint.exists():
        try:
            how = unsealed(checkpoint)
            for number, most in ((how["environment"]["threads"], THREADS), (how["batch_size"], LARGEST)):
                if type(number) is not int or not 1 <= number <= most:
                    raise ValueError(f"it computed with {number}")
            if how["memory_format"] not in LAYOUTS:
                raise ValueError("it computed in no layout")
            then = {**how["environment"], "threads": now["environment"]["threads"]}
            other = [
                f"{key} {then.get(key)}, now {new}" for key, new in now["environment"].items() if then.get(key) != new
            ]
            if other or how["identity"] != now["identity"]:
                log.info("soft targets: begun with %s: starting anew", "; ".join(other) or "something else to store")
                how = {}
            paths = [folder / name for name in how.get("shards", {}) if SHARD.fullmatch(name)]
            found = digests_of([path for path in paths if path.is_file() and not path.is_symlink()], "verifying")
            shards = {name: sha256 for name, sha256 in found.items() if sha256 == how["shards"][name]}
            for name in sorted(found.keys() - shards.keys()):
                log.info("soft targets: %s of an earlier attempt is damaged, and made anew", name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            log.info("soft targets: the checkpoint is damaged (%s): starting anew", first_line(error)[:200])
            how, shards = {}, {}
    with written(folder):
        only(folder, [checkpoint.name, *shards] if how else [])
    about = {key: how[key] for key in ("environment", "memory_format", "batch_size")} if how else {}
    return {**now, **about, "shards": shards}


@contextmanager
def _laid_out(network: nn.Module | None, layout: torch.memory_format) -> Iterator[None]:
    """Weights of convolutions in another order, which may be faster; afterwards as they were."""
    if network is None:
        yield
        return
    network.to(memory_format=layout)
    try:
        yield
    finally:
        network.to(memory_format=torch.contiguous_format)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
