"""Stage 2: the teacher's logits over the transfer set, dumped once."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from kd_cli import metrics
from kd_cli.device import autocast
from kd_cli.engine import Targets, predict
from kd_cli.errors import must
from kd_cli.progress import log, task
from kd_cli.soft_targets import SoftTargets, check_room, write_targets
from kd_cli.stages.run import Run
from kd_cli.stages.train_teacher import Teacher, obtain, prepare
from kd_cli.stages.transfer import TransferSet, transfer_set
from kd_cli.types import UNLABELLED

VERSION = 2  # raised whenever kd computes other logits from the same teacher and transfer set


def main(cfg: DictConfig) -> None:
    """`kd dump-targets`."""
    run = Run(cfg)
    source, network = prepare(run)
    if source.online:
        raise must("teacher.online", "false for kd dump-targets", True, "An online teacher has nothing to dump.")
    transfer = transfer_set(cfg.transfer, run.dataset, online=False)
    room(run, transfer)
    run.accept()
    obtain_targets(run, obtain(run, source, network), transfer)
    run.finish({"environment": run.environment("32")})


def room(run: Run, transfer: TransferSet) -> None:
    """Refuses more views than fit on the disk."""
    classes = len(run.dataset.classes)
    check_room(run.root, len(transfer.split), transfer.views or 1, classes, run.cfg.transfer.dtype)


def obtain_targets(run: Run, teacher: Teacher, transfer: TransferSet) -> tuple[Targets, dict[str, Any]]:
    """What answers with the teacher's logits in each step, and its identity."""
    if teacher.online:
        precision = str(run.cfg.precision)
        return partial(_ask, teacher, run.device, precision), {"online": teacher.identity, "precision": precision}
    split, views = transfer.split, transfer.views or 1
    identity = {
        "stage": "soft_targets",
        "version": VERSION,
        "teacher": teacher.identity,
        "transfer": transfer.identity,
        "dtype": run.cfg.transfer.dtype,
    }

    def logits(view: int, positions: Tensor | None = None, on_step: Any = lambda images: None) -> Tensor:
        return predict(teacher.network, split, run.device, transfer.augment, transfer.seed, view, positions, on_step)

    def fill(folder: Path) -> dict[str, Any]:
        with task("soft targets", "view", views) as progress:

            def of_view(view: int) -> Tensor:
                done = 0

                def on_step(images: int) -> None:
                    nonlocal done
                    done += images
                    progress.move(view + done / len(split))

                rows = logits(view, on_step=on_step)
                progress.finish(view + 1, {})
                return rows

            write_targets(folder, of_view, split, views, run.cfg.transfer.dtype)
        return {"environment": run.environment("32"), "samples": len(split), "views": views}

    with run.stage("soft_targets") as done:
        found = run.store.find("soft_targets", identity)
        artifact = found or run.store.write("soft_targets", identity, fill)
        stored = SoftTargets(artifact, split, run.device)
        stored.check(logits, artifact.folder)
        done(artifact, found is not None)
    labelled = (split.labels != UNLABELLED).nonzero()[:, 0]
    if len(labelled):
        rows = stored(labelled, 0, torch.empty(0)).cpu()
        wrong = metrics.errors(rows, split.labels[labelled])
        log.info(
            "soft targets: the teacher is right on %.2f %% of the labelled samples", 100 - 100 * wrong / len(labelled)
        )
    return stored, {"stored": artifact.content}


@torch.inference_mode()
def _ask(
    teacher: Teacher, device: torch.device, precision: str, positions: Tensor, view: int, images: Tensor
) -> Tensor:
    with autocast(device, precision):
        logits: Tensor = teacher.network(images)
    return logits.float()
