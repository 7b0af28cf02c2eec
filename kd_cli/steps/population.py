"""The students of a sweep that differ in numbers alone, trained together; each is stored as its own artifact."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn

from kd_cli.build.objects import check_augment
from kd_cli.data.mixing import Mix
from kd_cli.errors import KdError, must, under
from kd_cli.files.digests import id_of
from kd_cli.files.disk import only, written
from kd_cli.progress import log, task
from kd_cli.runs.session import Session
from kd_cli.steps.plan import Plan
from kd_cli.steps.setting import Setting
from kd_cli.steps.student import Pair, untrained
from kd_cli.steps.trained_model import TrainedModel, checkpoint_in, kept, write_model
from kd_cli.steps.transfer import TransferSet
from kd_cli.store.history import HISTORY, read_history
from kd_cli.store.models import not_numbers
from kd_cli.store.step import find, manifest_notes
from kd_cli.train.checkpoint import FILE
from kd_cli.train.population import ALONE, Member, MemberMeans, capacity, check_population, fit_population, of_member
from kd_cli.train.watch import Bar, History, Watches

LAUNCHER = "population"


def refuse(plans: Iterable[Plan], session: Session) -> None:
    """Raise ConfigError, before the first job, for students that cannot be trained together whatever their numbers."""
    for plan in plans:
        student, transfer, targets = plan.student, plan.transfer, plan.targets
        assert student is not None
        assert transfer is not None
        assert targets is not None
        try:
            dataset = plan.dataset.load(session)
            model = untrained(student, dataset)
            student.recipe.built.check(model, dataset.validation)
            if transfer.augment is not None:
                check_augment(transfer.augment.built, dataset.spec, "transfer.augment")
        except KdError:  # its own job will say so
            continue
        if transfer.augment is not None and isinstance(transfer.augment.built, Mix):
            mixture = type(transfer.augment.built).__name__
            raise must("transfer.augment", "without mixtures in a population", mixture, ALONE)
        if targets.top_k is not None:
            raise must("targets.top_k", "null in a population", targets.top_k, ALONE)
        if plan.teacher.config.get("combine") == "arithmetic":  # its logits are others at each temperature
            raise must("teacher.combine", "geometric in a population", "arithmetic", ALONE)
        with under("student"):
            check_population(model, student.objective.built, student.recipe.built)
        return


def peers_of(plan: Plan, transfer: TransferSet, setting: Setting) -> list[Pair]:
    """Return the other jobs of the population that share this one's teacher, for the first of them that asks.

    One that will be refused is left out.
    """
    session, seed = setting.session, plan.teacher.config.get("seed")
    waiting, session.population, pairs = session.population, [], []
    for other in waiting:
        if other.teacher.config.get("seed") != seed:
            session.population.append(other)
            continue
        try:
            pair = Pair(other.student, transfer, setting)
            other.student.recipe.built.check(untrained(other.student, setting.dataset), setting.dataset.validation)
            pair.check()
        except KdError:
            continue
        pairs.append(pair)
    return pairs


def train_together(stage: str, steps: list[TrainedModel], setting: Setting) -> None:
    """Train what the store does not hold of these steps, in as large stacks as gain from it.

    What remains, one alone or one whose loss was lost, is left to its own job, which says what it has to say.
    """
    if len(steps) < 2:
        return
    missing = {id_of(step.identity): step for step in steps if find(step, setting.store) is None}
    waiting = list(missing.values())
    if len(waiting) < 2:
        return
    size = capacity(waiting[0].network, setting.device) or len(waiting)
    if size < 2:
        log.info("%s of this size gain nothing from being trained together", stage)
        return
    with setting.run.stage(stage):
        for first in range(0, len(waiting) - 1, size):
            _train_stack(stage, waiting[first : first + size], setting)


def _train_stack(stage: str, steps: list[TrainedModel], setting: Setting) -> None:
    """Train these and store each; until all are stored, what they have come to is kept in a folder of their own."""
    networks = [deepcopy(step.network) for step in steps]  # one that is spoilt is left to its own job, untrained
    members = [
        Member(network, step.batches, step.objective.built, step.recipe)
        for network, step in zip(networks, steps, strict=True)
    ]
    recipe = members[0].recipe
    identity = {"population": [step.identity for step in steps]}
    with ExitStack() as ends, setting.store.unfinished("students", identity) as folder:
        if any(find(step, setting.store) for step in steps):  # by who held the folder until now
            return
        checkpoint = checkpoint_in(folder, stage, recipe, identity, setting.circumstances)
        ends.enter_context(checkpoint.hold)
        with written(folder):
            only(folder, [FILE])
        with task(f"{len(members)} {stage}", "epoch", recipe.epochs) as progress, kept(checkpoint, "student"):
            watch = Watches(History(folder), MemberMeans(Bar(progress, len(members[0].batches))))
            sane, precision = fit_population(members, setting.dataset.validation, checkpoint, watch)
        epochs = read_history((folder / HISTORY).read_text("utf-8"))
        for k, (step, model, well) in enumerate(zip(steps, networks, sane, strict=True)):
            if well and not list(not_numbers(model.state_dict(), dict(model.named_parameters()))):
                _store(step, model, [of_member(epoch, k) for epoch in epochs], precision, len(members))
    log.info("%s: %d trained together", stage, sum(sane))


def _store(
    step: TrainedModel, network: nn.Module, history: list[dict[str, float]], precision: str, members: int
) -> None:
    """Store a network that was trained beside others, with its history, as the step would."""

    def fill(folder: Path) -> dict[str, Any]:
        lines = "".join(json.dumps(record) + "\n" for record in history)
        with written(folder):
            (folder / HISTORY).write_text(lines, encoding="utf-8")
        write_model(folder, step.identity, network, step.config, step.dataset, step.setting.dataset_config)
        environment = step.setting.circumstances.environment(precision)
        return {**manifest_notes(step), "environment": environment, "launcher": LAUNCHER, "members": members}

    step.setting.store.write(step.kind, step.identity, fill)
