"""What answers with the teacher's logits while a student learns: the stored ones, or the teacher itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import Inputs
from kd_cli.data.samples import UNLABELLED
from kd_cli.device import autocast, chosen_precision
from kd_cli.measure.flops import work_of
from kd_cli.measure.prediction import EVALUATION_BATCH
from kd_cli.progress import log
from kd_cli.steps.dump import Dump
from kd_cli.steps.plan import TargetsPlan
from kd_cli.steps.setting import Setting
from kd_cli.steps.transfer import TransferSet, storage
from kd_cli.store.step import name_of, obtain
from kd_cli.targets.soft_targets import check_room
from kd_cli.teachers.ensemble import Members
from kd_cli.teachers.sound import check_numbers
from kd_cli.teachers.teacher import Teacher
from kd_cli.train.batches import Targets


def room(plan: TargetsPlan, transfer: TransferSet, setting: Setting, few: Iterable[int | None] = (None,)) -> None:
    """Refuse targets that cannot be stored as asked, or more views than fit on the disk. `few` says of each part of a
    teacher how many classes it tells, None for all.
    """
    classes = len(setting.dataset.classes)
    for k in few:
        check_room(setting.store.root, len(transfer.split), transfer.views or 1, classes, storage(plan, classes, k))


@dataclass(frozen=True)
class Taught:
    """What answers with the teacher's logits in each step, its identity, and the artifacts that it comes from.
    `untold` says that it has no answer for some samples.
    """

    targets: Targets
    identity: dict[str, Any]
    deps: tuple[str, ...]
    untold: bool = False


def obtain_targets(plan: TargetsPlan, teacher: Teacher, transfer: TransferSet, setting: Setting) -> Taught:
    """Return the teacher's logits over the transfer set, dumped now or found in the store; for each member of an
    ensemble by itself.
    """
    split, temperature = transfer.split, plan.temperature or 1.0
    combination = teacher.combination
    if combination is not None:
        stored = [
            _stored(plan, each, transfer, setting, f"soft_targets_{name}") for name, each in teacher.members.items()
        ]
        identity = {"members": [each.identity for each in stored], **combination.identity(temperature)}

        def together(positions: Tensor, view: int, inputs: Inputs) -> Tensor:
            return combination([each.targets(positions, view, inputs) for each in stored], temperature)

        deps, untold = tuple(dep for each in stored for dep in each.deps), any(each.untold for each in stored)
        taught = Taught(together, identity, deps, untold)
    else:
        taught = _stored(plan, teacher, transfer, setting, "soft_targets")
    labelled = (split.labels != UNLABELLED).nonzero()[:, 0]
    if len(labelled):
        blocks = labelled.split(EVALUATION_BATCH)
        right = told = 0
        for block in blocks:
            logits = taught.targets(block, 0, torch.empty(0)).cpu()
            known = ~logits.isnan().any(1)
            right += int((logits[known].argmax(1) == split.labels[block][known]).sum())
            told += int(known.sum())
        share = 100 * right / max(told, 1)
        log.info("soft targets: the teacher is right on %.2f %% of the labelled samples", share)
    return taught


def asked_online(plan: TargetsPlan, teacher: Teacher, batch_size: int, setting: Setting) -> Taught:
    """Return a teacher that is asked in each step of a student with batches of `batch_size`."""
    network, identity, device = teacher.network, teacher.identity, setting.device
    assert network is not None  # one without is refused
    flops = work_of(network, setting.dataset.spec).of_step(batch_size)
    if isinstance(network, Members):
        temperature = plan.temperature or 1.0
        identity = identity | network.combination.identity(temperature)
        network = Members(list(network.networks), network.combination, temperature)
    precision, noun = chosen_precision(plan.precision, device, flops), setting.dataset.spec.noun
    ask = partial(_ask, network, device, precision, noun)
    names = [each.name for each in (teacher, *teacher.members.values()) if each.name is not None]
    return Taught(ask, {"online": identity, "precision": plan.precision}, tuple(names))


def _stored(plan: TargetsPlan, teacher: Teacher, transfer: TransferSet, setting: Setting, stage: str) -> Taught:
    few = teacher.answering.top_k if teacher.answering is not None else None
    stored_as = storage(plan, len(setting.dataset.classes), few)
    step = Dump(stage, teacher, transfer, stored_as, plan.temperature, setting)
    artifact = obtain(step, setting.store, setting.run)
    stored = step.opened[-1]
    # Not its content: what the same command computes again may differ in last bits. Of all temperatures that the rest's
    # mass is stated for, one is read.
    read_at = {"read_at": stored.temperature} if step.stored_as.top_k else {}
    content = {"content": artifact.content} if stored.untold else {}  # which it are that have no answer
    return Taught(stored, {"stored": step.identity} | read_at | content, (name_of(step),), stored.untold)


@torch.inference_mode()
def _ask(
    network: nn.Module, device: torch.device, precision: str, noun: str, positions: Tensor, view: int, inputs: Inputs
) -> Tensor:
    with autocast(device, precision):
        logits: Tensor = network(inputs)
    check_numbers(logits, network, "The teacher", noun)
    return logits.float().clamp(min=torch.finfo(torch.float32).min)  # as stored: −∞ times 0 would be no number
