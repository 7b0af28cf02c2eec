"""Stage 2: the teacher's logits over the transfer set, dumped once."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import Inputs
from kd_cli.data.samples import UNLABELLED
from kd_cli.device import autocast, chosen_precision
from kd_cli.errors import ArtifactError, KdError, first_line
from kd_cli.files.digests import digest_of, digests_of, sealed, unsealed
from kd_cli.files.disk import only, written
from kd_cli.measure import metrics
from kd_cli.measure.flops import work_of
from kd_cli.measure.prediction import EVALUATION_BATCH, predict, predictions
from kd_cli.progress import log, task
from kd_cli.runs.run import Run
from kd_cli.steps.teacher import Teacher
from kd_cli.steps.transfer import TransferSet, storage
from kd_cli.store.artifacts import CHECKPOINT, Artifact, Use, whole
from kd_cli.store.models import precision_of
from kd_cli.targets.batch_size import LARGEST, fastest_batch, out_of_memory
from kd_cli.targets.soft_targets import DTYPES, SoftTargets, Storage, check_room, write_targets
from kd_cli.teachers.ensemble import Members
from kd_cli.teachers.sound import check_numbers, check_range
from kd_cli.train.batches import Targets
from kd_cli.train.memory_format import LAYOUTS, chosen_memory_format

VERSION = 2  # raised whenever kd computes other logits from the same teacher and transfer set

HEADER = 1 << 12  # bytes of a view's file beside its rows
THREADS = 1 << 10  # an earlier attempt can have had
SHARD = re.compile(r"logits-\d{5,}\.safetensors")


def room(run: Run, transfer: TransferSet) -> None:
    """Refuses targets that cannot be stored as asked, or more views than fit on the disk."""
    classes = len(run.dataset.classes)
    check_room(run.root, len(transfer.split), transfer.views or 1, classes, storage(run.cfg, classes))


def obtain_targets(run: Run, teacher: Teacher, transfer: TransferSet) -> tuple[Targets, dict[str, Any]]:
    """What answers with the teacher's logits in each step, and its identity."""
    split, temperature = transfer.split, run.cfg.get("temperature") or 1.0
    if teacher.online:
        flops = work_of(teacher.network, run.dataset.spec).of_step(run.cfg.student.train.batch_size)
        asked = str(run.cfg.precision)
        network, identity = teacher.network, teacher.identity
        if isinstance(network, Members):
            identity = identity | network.combination.identity(temperature)
            network = Members(list(network.networks), network.combination, temperature)
        ask = partial(_ask, network, run.device, chosen_precision(asked, run.device, flops))
        return ask, {"online": identity, "precision": asked}
    targets: Targets
    if isinstance(teacher.network, Members):
        combination = teacher.network.combination
        stored = [_stored(run, each, transfer, f"soft_targets_{name}") for name, each in teacher.members.items()]
        members = [answers for answers, _ in stored]
        identity = {"members": [of for _, of in stored], **combination.identity(temperature)}

        def targets(positions: Tensor, view: int, inputs: Inputs) -> Tensor:
            return combination([answers(positions, view, inputs) for answers in members], temperature)
    else:
        targets, identity = _stored(run, teacher, transfer, "soft_targets")
    labelled = (split.labels != UNLABELLED).nonzero()[:, 0]
    if len(labelled):
        blocks = labelled.split(EVALUATION_BATCH)
        wrong = sum(metrics.errors(targets(block, 0, torch.empty(0)).cpu(), split.labels[block]) for block in blocks)
        log.info(
            "soft targets: the teacher is right on %.2f %% of the labelled samples", 100 - 100 * wrong / len(labelled)
        )
    return targets, identity


def _stored(run: Run, teacher: Teacher, transfer: TransferSet, stage: str) -> tuple[SoftTargets, dict[str, Any]]:
    """The logits of a teacher of one network, dumped now or found in the store, and their identity."""
    split, views, classes = transfer.split, transfer.views or 1, len(run.dataset.classes)
    stored_as = storage(run.cfg, classes)
    identity = targets_identity(teacher.identity, transfer, stored_as)

    def fill(folder: Path) -> dict[str, Any]:
        how = _dump(run, teacher, transfer, stored_as, folder, digest_of(identity))
        temperatures = list(stored_as.temperatures)
        about = {"samples": len(split), "views": views, "classes": classes, "temperatures": temperatures}
        return {**how, **about, "teacher": teacher.name}

    def read(artifact: Artifact) -> None:
        precision_of(artifact)
        stored = SoftTargets(artifact, run.device, run.cfg.get("temperature"))
        if len(stored.views) != views:
            raise ArtifactError(f"{artifact.folder} holds {len(stored.views)} views instead of {views}.")
        stored.check(split, partial(predict, teacher.network, split, run.device, transfer.augment, transfer.seed))
        opened.append(stored)

    opened: list[SoftTargets] = []
    use = Use(len(split) * (views * stored_as.row_bytes(classes) + 16) + (views + 1) * HEADER, read)
    with run.stage(stage) as done:
        found = run.store.find("soft_targets", identity, use)
        artifact = found or run.store.write("soft_targets", identity, fill, use)
        done(artifact, found is not None)
    stored = opened[-1]
    # Not its content: what the same command computes again may differ in last bits. Of all temperatures that the rest's
    # mass is stated for, one is read.
    return stored, {"stored": identity} | ({"read_at": stored.temperature} if stored_as.top_k else {})


def targets_identity(teacher: dict[str, Any], transfer: TransferSet, stored_as: Storage) -> dict[str, Any]:
    """All that determines the stored logits of the teacher with the identity `teacher`."""
    about = {"stage": "soft_targets", "version": VERSION, "teacher": teacher, "transfer": transfer.identity}
    return {**about, **stored_as.identity}


def _dump(
    run: Run, teacher: Teacher, transfer: TransferSet, stored_as: Storage, folder: Path, identity: str
) -> dict[str, Any]:
    """Writes what `folder` lacks of the teacher's logits; returns how they were computed.

    `checkpoint.json` holds that from the first view on, with the digest of each: an attempt that goes on computes as
    the one before it. Batch size, layout and threads are no part of the identity, they move last bits only. What was
    begun with another device, torch or kd is begun anew.
    """
    split, views, checkpoint = transfer.split, transfer.views or 1, folder / f"{CHECKPOINT}json"
    network = teacher.network
    how = _begun(folder, checkpoint, {"identity": identity, "environment": run.environment("32")})
    if how["shards"]:
        log.info("soft targets: going on after %d of %d views", len(how["shards"]), views)
    rows = partial(predictions, network, split, run.device, transfer.augment, transfer.seed)

    def seconds(images: int) -> float:
        started = time.perf_counter()
        list(rows(positions=torch.arange(images) % len(split), batch_size=images))
        return time.perf_counter() - started

    if "memory_format" not in how:
        convolutions = work_of(network, run.dataset.spec).convolutions
        how["memory_format"] = chosen_memory_format(teacher.memory_format, convolutions)
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
                                check_numbers(block, network, "The teacher", split.samples.spec.noun)
                                check_range(block, DTYPES[stored_as.dtype])
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
                with whole(checkpoint) as working:
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
def _laid_out(network: nn.Module, layout: torch.memory_format) -> Iterator[None]:
    """Weights of convolutions in another order, which may be faster; afterwards as they were."""
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


@torch.inference_mode()
def _ask(
    network: nn.Module, device: torch.device, precision: str, positions: Tensor, view: int, inputs: Inputs
) -> Tensor:
    with autocast(device, precision):
        logits: Tensor = network(inputs)
    check_numbers(logits, network, "The teacher")
    return logits.float().clamp(min=torch.finfo(torch.float32).min)  # as stored: −∞ times 0 would be no number
