"""The students of a sweep that differ in numbers alone, trained together; each is stored as its own artifact."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import mean
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd_cli.build.objects import check_augment, instantiate, owner
from kd_cli.cli import schema
from kd_cli.cli.job import Sweep
from kd_cli.data.mixing import Mix
from kd_cli.errors import KdError, must
from kd_cli.files.digests import digest_of, id_of
from kd_cli.files.disk import only, written
from kd_cli.progress import log, task
from kd_cli.runs.run import Run, dataset_of
from kd_cli.steps.recipes import check_recipes
from kd_cli.steps.student import Builder, Plan
from kd_cli.steps.trained_model import kept, write_model
from kd_cli.steps.transfer import TransferSet
from kd_cli.store.history import HISTORY, read_history
from kd_cli.store.models import not_numbers, use_of
from kd_cli.train.checkpoint import FILE, Checkpoint
from kd_cli.train.population import ALONE, Member, capacity, check, fit_population

LAUNCHER = "population"


def refuse(configs: Sequence[DictConfig]) -> None:
    """ConfigError, before the first job, for students that cannot be trained together whatever their numbers are."""
    for cfg in configs:
        try:
            check_recipes(cfg)
            builder = Builder(cfg, dataset_of(cfg.dataset))
            model = builder.model()
            builder.recipe.check(model, builder.dataset.validation)
            augment = instantiate(cfg.transfer.augment, "transfer.augment") if cfg.transfer.augment else None
            check_augment(augment, builder.dataset.spec, "transfer.augment")
        except KdError:  # its own job will say so
            continue
        if isinstance(augment, Mix):
            raise must("transfer.augment", "without mixtures in a population", type(augment).__name__, ALONE)
        if cfg.targets.top_k is not None:
            raise must("targets.top_k", "null in a population", cfg.targets.top_k, ALONE)
        if cfg.teacher.get("combine") == "arithmetic":  # its logits are others at each temperature
            raise must("teacher.combine", "geometric in a population", "arithmetic", ALONE)
        with owner("student"):
            check(model, builder.objective, builder.recipe)
        return


def peers_of(run: Run, transfer: TransferSet) -> list[Builder]:
    """The other jobs of the population that share this run's teacher, for the first of them that asks.

    One that will be refused is left out.
    """
    teacher = OmegaConf.select(run.cfg, "teacher.seed")
    peers = [cfg for cfg in Sweep.population if OmegaConf.select(cfg, "teacher.seed") == teacher]
    Sweep.population = [cfg for cfg in Sweep.population if cfg not in peers]
    builders = []
    for cfg in peers:
        try:
            schema.check("distill", cfg)
            builder = Builder(cfg, run.dataset)
            builder.recipe.check(builder.model(), run.dataset.validation)
            builder.check(transfer)
        except KdError:
            continue
        builders.append(builder)
    return builders


def train_together(run: Run, role: str, plans: list[Plan]) -> None:
    """Trains what the store does not hold of these plans, in as large stacks as gain from it.

    What remains, one alone or one whose loss was lost, is left to its own job, which says what it has to say.
    """
    if len(plans) < 2:
        return
    use = use_of(plans[0].builder.model())  # they are all of one shape
    missing = {id_of(plan.identity): plan for plan in plans if not run.store.find("students", plan.identity, use)}
    waiting = list(missing.values())
    if len(waiting) < 2:
        return
    size = capacity(waiting[0].builder.model(), run.device) or len(waiting)
    if size < 2:
        log.info("%s of this size gain nothing from being trained together", role)
        return
    with run.stage(role):
        for first in range(0, len(waiting) - 1, size):
            _train_stack(run, role, waiting[first : first + size])


def _train_stack(run: Run, role: str, plans: list[Plan]) -> None:
    """Trains these and stores each; until all are stored, what they have come to is kept in a folder of their own."""
    members = [Member(plan.builder.model(), plan.batches, plan.objective, plan.builder.recipe) for plan in plans]
    recipe, steps, every = members[0].recipe, len(members[0].batches), run.cfg.checkpoint
    identity = {"population": [plan.identity for plan in plans]}
    with ExitStack() as ends, run.store.unfinished("students", identity) as folder:
        use = use_of(plans[0].builder.model())
        if any(run.store.find("students", plan.identity, use) for plan in plans):  # by who held the folder until now
            return
        checkpoint = Checkpoint(
            folder,
            role,
            recipe.epochs,
            every.every_epochs,
            every.every_minutes,
            run.environment(recipe.precision),
            digest_of(identity),
        )
        ends.enter_context(checkpoint.hold)
        with written(folder):
            only(folder, [FILE])
        with task(f"{len(members)} {role}", "epoch", recipe.epochs) as progress:

            def on_epoch(records: dict[int, dict[str, float]]) -> None:
                checkpoint.note(
                    {f"{k}.{name}": value for k, record in records.items() for name, value in record.items()}
                )
                names = next(iter(records.values()), {})
                means = {name: mean(record[name] for record in records.values()) for name in names}
                progress.finish(int(means.get("epoch", recipe.epochs)), means)

            def on_step(epoch: int, step: int) -> None:
                progress.move(epoch + (step + 1) / steps)

            with kept(checkpoint, "student"):
                sane, precision = fit_population(members, run.dataset.validation, checkpoint, on_step, on_epoch)
        epochs = read_history((folder / HISTORY).read_text("utf-8"))
        for k, (plan, member, well) in enumerate(zip(plans, members, sane, strict=True)):
            if well and not list(not_numbers(member.model.state_dict(), dict(member.model.named_parameters()))):
                own = [
                    {name.partition(".")[2]: epoch[name] for name in epoch if name.startswith(f"{k}.")}
                    for epoch in epochs
                ]
                _store(run, plan, member, own, precision, len(members))
    log.info("%s: %d trained together", role, sum(sane))


def _store(run: Run, plan: Plan, member: Member, history: list[dict[str, float]], precision: str, members: int) -> None:
    def fill(folder: Path) -> dict[str, Any]:
        lines = "".join(json.dumps(record) + "\n" for record in history)
        with written(folder):
            (folder / HISTORY).write_text(lines, encoding="utf-8")
        notes = write_model(run, folder, plan.identity, member.model, plan.builder.cfg.student.model, precision)
        return {**notes, "launcher": LAUNCHER, "members": members}

    run.store.write("students", plan.identity, fill)
