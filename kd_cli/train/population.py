"""Training networks of one shape in one pass: their weights stacked, their products batched.

The step of a small network is mostly overhead, which a stack pays once. Each member keeps its own initialisation, order
of samples, dropout, optimizer's numbers and schedule, and becomes what `fit` makes of it alone, up to rounding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from kd_cli.data.samples import Answer, Batch, Split
from kd_cli.device import autocast, chosen_precision
from kd_cli.errors import must
from kd_cli.measure.flops import work_of
from kd_cli.measure.prediction import errors_on
from kd_cli.models.dropout import Dropout
from kd_cli.models.normalise import Normalise
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches, derive
from kd_cli.train.checkpoint import Checkpoint
from kd_cli.train.devices import OneDevice
from kd_cli.train.fit import Objective
from kd_cli.train.loop import train
from kd_cli.train.plateau import Plateau
from kd_cli.train.recipe import Recipe
from kd_cli.train.stack import Stack
from kd_cli.train.stacked import StackedBatches, clip_each, constrain_each, stacked_objective, stacked_optimizer
from kd_cli.train.state import State
from kd_cli.train.stepping import bare_step
from kd_cli.train.tally import Tally
from kd_cli.train.watch import Record, Watch

FIRST, THEN = (Normalise, nn.Flatten), (nn.Linear, nn.ReLU, Dropout)  # what the stack knows how to compute
OBJECTIVES = (Hinton, CrossEntropy)
ELEMENTWISE = (SGD, Adam, AdamW)  # move each weight by itself: a stack of weights as each alone
STACKED_WEIGHTS = 1 << 19  # on a CPU: beyond it a stack falls out of the cache, and its members are faster apart
PRECISIONS = (
    "auto",
    "32",
    "bf16-mixed",
)  # one loss scale for all, as 16-mixed would need it, would tie the members together
ALONE = "Leave out hydra/launcher=population to train one after the other."


@dataclass(frozen=True)
class Member:
    """One network of a population, and how it is trained."""

    model: nn.Module
    batches: Batches
    objective: Objective
    recipe: Recipe


def check_population(model: nn.Module, objective: Objective, recipe: Recipe) -> None:
    """Raise ConfigError, by its name, for what a population cannot train."""
    layers = list(model) if type(model) is nn.Sequential else [model]
    for k, layer in enumerate(layers):
        if type(layer) not in (FIRST[k : k + 1] or THEN):
            rule = "Normalise, Flatten, then Linear, ReLU and Dropout layers in a population"
            raise must(".model", rule, type(layer).__name__, ALONE)
    if len(set(layers)) < len(layers) or not all(p.requires_grad for p in model.parameters()):
        raise must(".model", "without shared or frozen layers in a population", "some", ALONE)
    optimizer = recipe.build(model, 1)[0]
    for key, kinds, value in (("objective", OBJECTIVES, objective), (".train.optimizer", ELEMENTWISE, optimizer)):
        if type(value) not in kinds:
            names = ", ".join(kind.__name__ for kind in kinds)
            raise must(key, f"one of {names} in a population", type(value).__name__, ALONE)
    for key, plain in (("accumulate", 1), ("patience", None), ("class_weights", None), ("start_from", None)):
        if getattr(recipe, key) != plain:
            raise must(f".train.{key}", f"{plain or 'null'} in a population", getattr(recipe, key), ALONE)
    if isinstance(recipe.build(model, 1)[1], Plateau):
        raise must(".train.scheduler", "one that depends on steps alone in a population", "Plateau", ALONE)
    if recipe.precision not in PRECISIONS:
        raise must(".train.precision", f"one of {', '.join(PRECISIONS)} in a population", recipe.precision, ALONE)


def capacity(model: nn.Module, device: torch.device) -> int | None:
    """Return how many networks of this size gain from being stacked; None for any number."""
    weights = sum(p.numel() for p in model.parameters())
    return max(1, round(STACKED_WEIGHTS / weights)) if device.type == "cpu" else None


def fit_population(
    members: Sequence[Member],
    validation: Split | None = None,
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
) -> tuple[list[bool], str]:
    """Train the members' models in place; return of each whether its loss stayed a number, and the precision chosen.

    Members differ in weights, seed, in the numbers of one kind of objective and of one kind of optimizer; samples,
    views, targets and all else are those of the first. `watch` is told what `fit` records of an epoch, as
    `<member's place>.<name>`; `samples_per_second` is the population's rate divided by its size. A member whose loss
    was lost gets no more records. A `checkpoint` is of all together. Raises ConfigError for what `check` refuses.
    """
    for member in members:
        check_population(member.model, member.objective, member.recipe)
        member.recipe.check(member.model, validation)
    training = PopulationTraining(members, validation)
    train(training, checkpoint, watch)
    if training.state.best is not None:
        training.state.model.load_state_dict(training.state.best, strict=False)
    for member in members:
        for parameter in member.model.parameters():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        member.model.eval()
    return training.tally.sane, training.precision


class PopulationTraining:
    """The members on their way, a step of all at a time, a `Training`."""

    def __init__(self, members: Sequence[Member], validation: Split | None) -> None:
        self.members, self.validation, self.recipe = members, validation, members[0].recipe
        self.epochs, device = self.recipe.epochs, members[0].batches.device
        self.devices = OneDevice(device)
        for member in members:
            member.model.to(device)
        self.stack = Stack([member.model for member in members])
        self.batches = StackedBatches([member.batches for member in members])
        self._objective = stacked_objective([member.objective for member in members], device)
        recipes = [member.recipe for member in members]
        optimizer, self._group_of = stacked_optimizer(recipes, self.stack.parameters)
        scheduler = self.recipe.scheduler(optimizer, self.epochs, len(self.batches))
        self._move = bare_step(optimizer)
        flops = work_of(members[0].model, self.batches.split.samples.spec).of_step(self.recipe.batch_size)
        # As a member would alone, whatever the stack would gain.
        self.precision = chosen_precision(self.recipe.precision, device, flops)
        self.circumstances, self.flops = {"precision": self.precision}, len(members) * flops
        self.tally = Tally(len(members), device)
        models = nn.ModuleList(member.model for member in members)
        scaler = torch.amp.GradScaler(device.type, enabled=False)
        self.state = State(models, optimizer, scheduler, scaler, self.tally, len(self.batches))

    def ended(self) -> bool:
        """Return whether no member is left whose loss is a number."""
        return not any(self.tally.sane)

    def begin(self) -> None:
        """Begin to count anew, at the learning rates of the first step."""
        groups = self.state.optimizer.param_groups
        self.tally.begin([groups[group]["lr"] for group in self._group_of])

    def step(self, batch: Batch, epoch: int, step: int) -> None:
        """Move each member by its own batch."""
        stack, groups = self.stack, self.state.optimizer.param_groups
        seeds = [derive(seed, "dropout", epoch, step) for seed in self.batches.seeds]
        with autocast(self.batches.device, self.precision):
            logits = stack(batch.inputs, self.batches.which, seeds).float()
        terms = self._objective(Answer(logits), batch)
        for parameter in stack.parameters:
            parameter.grad = None
        terms["loss"].sum().backward()
        if self.recipe.clip is not None:
            clip_each(stack.parameters, self.recipe.clip)
        for group in groups:
            for part, whole in zip(group["params"], stack.parameters, strict=True):
                part.grad = whole.grad[group["members"]] if whole.grad is not None else None
        self._move()
        self.state.scheduler.step()
        if self.recipe.max_norm is not None:
            constrain_each(stack.weights, self.recipe.max_norm)
        self.tally.add(batch, logits.detach(), {name: term.detach() for name, term in terms.items()})

    def figures(self) -> Record:
        """Return what the epoch came to for each member whose loss is a number, and keep its best weights."""
        record: Record = {}
        for k, figures in enumerate(self.tally.figures()):
            self.tally.sane[k] = self.tally.sane[k] and math.isfinite(figures["loss"])
            if self.tally.sane[k]:
                own = {"epoch": self.state.epoch + 1, "lr": self.tally.rates[k], **figures, **self._validated(k)}
                record |= {f"{k}.{name}": value for name, value in own.items()}
        return record

    def _validated(self, k: int) -> Record:
        if self.validation is None:
            return {}
        model, tally, state = self.members[k].model, self.tally, self.state
        wrong = errors_on(model, self.validation, self.batches.device)
        if self.recipe.select == "best_validation" and wrong < tally.fewest[k]:
            own = {f"{k}.{name}": value.clone() for name, value in model.state_dict().items()}
            state.best, tally.fewest[k] = (state.best or {}) | own, wrong
        return {"validation_accuracy": 1 - wrong / len(self.validation)}


def of_member(record: Record, k: int) -> Record:
    """Return what a population's record holds of the member in place `k`; nothing where its loss was lost."""
    return {name.removeprefix(f"{k}."): value for name, value in record.items() if name.startswith(f"{k}.")}


class MemberMeans:
    """Tells another watch the means over the members of a population."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def step(self, epoch: int, step: int) -> None:
        """Tell it of the step, which all have done."""
        self._watch.step(epoch, step)

    def epoch(self, record: Record) -> None:
        """Tell it the mean of each figure, if a member is left."""
        figures: dict[str, list[float]] = {}
        for name, value in record.items():
            figures.setdefault(name.partition(".")[2], []).append(value)
        if figures:
            self._watch.epoch({name: mean(values) for name, values in figures.items()})
