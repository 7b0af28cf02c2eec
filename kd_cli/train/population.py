"""Training networks of one shape in one pass: their weights stacked, their products batched.

The step of a small network is mostly overhead, which a stack pays once. Each member keeps its own initialisation, order
of samples, dropout, optimizer's numbers and schedule, and becomes what `fit` makes of it alone, up to rounding.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

from kd_cli.data.samples import UNLABELLED, Answer, Batch, Split
from kd_cli.device import autocast, chosen_precision, float32_kernels, threads_for
from kd_cli.errors import must
from kd_cli.measure.flops import work_of
from kd_cli.measure.prediction import predict
from kd_cli.models.dropout import Dropout
from kd_cli.models.normalise import Normalise
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches, derive
from kd_cli.train.checkpoint import Checkpoint
from kd_cli.train.fit import Objective
from kd_cli.train.plateau import Plateau
from kd_cli.train.recipe import Recipe
from kd_cli.train.stack import Stack
from kd_cli.train.state import State
from kd_cli.train.stepping import bare_step, fused
from kd_cli.train.tally import Tally

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


def check(model: nn.Module, objective: Objective, recipe: Recipe) -> None:
    """ConfigError, by its name, for what a population cannot train."""
    layers = list(model) if type(model) is nn.Sequential else [model]
    for k, layer in enumerate(layers):
        if type(layer) not in (FIRST[k : k + 1] or THEN):
            rule = "Normalise, Flatten, then Linear, ReLU and Dropout layers in a population"
            raise must("model", rule, type(layer).__name__, ALONE)
    if len(set(layers)) < len(layers) or not all(p.requires_grad for p in model.parameters()):
        raise must("model", "without shared or frozen layers in a population", "some", ALONE)
    optimizer = recipe.build(model, 1)[0]
    for key, kinds, value in (("objective", OBJECTIVES, objective), ("train.optimizer", ELEMENTWISE, optimizer)):
        if type(value) not in kinds:
            names = ", ".join(kind.__name__ for kind in kinds)
            raise must(key, f"one of {names} in a population", type(value).__name__, ALONE)
    for key, plain in (("accumulate", 1), ("patience", None), ("class_weights", None), ("start_from", None)):
        if getattr(recipe, key) != plain:
            raise must(f"train.{key}", f"{plain or 'null'} in a population", getattr(recipe, key), ALONE)
    if isinstance(recipe.build(model, 1)[1], Plateau):
        raise must("train.scheduler", "one that depends on steps alone in a population", "Plateau", ALONE)
    if recipe.precision not in PRECISIONS:
        raise must("train.precision", f"one of {', '.join(PRECISIONS)} in a population", recipe.precision, ALONE)


def capacity(model: nn.Module, device: torch.device) -> int | None:
    """How many networks of this size gain from being stacked; None for any number."""
    weights = sum(p.numel() for p in model.parameters())
    return max(1, round(STACKED_WEIGHTS / weights)) if device.type == "cpu" else None


def fit_population(
    members: Sequence[Member],
    validation: Split | None = None,
    checkpoint: Checkpoint | None = None,
    on_step: Callable[[int, int], None] = lambda epoch, step: None,
    on_epoch: Callable[[dict[int, dict[str, float]]], None] = lambda records: None,
) -> tuple[list[bool], str]:
    """Trains the members' models in place; says of each whether its loss stayed a number, and the precision chosen.

    Members differ in weights, seed, in the numbers of one kind of objective and of one kind of optimizer; samples,
    views, targets and all else are those of the first. `on_epoch` is given what `fit` records of an epoch, by the
    member's place; `images_per_second` is the population's rate divided by its size. A member whose loss was lost gets
    no more records. A `checkpoint` is of all together. Raises ConfigError for what `check` refuses.
    """
    recipe, device = members[0].recipe, members[0].batches.device
    for member in members:
        check(member.model, member.objective, member.recipe)
        member.recipe.check(member.model, validation)
        member.model.to(device)
    stack = Stack([member.model for member in members])
    batches = Together([member.batches for member in members])
    objective = together([member.objective for member in members], device)
    optimizer, group_of = build([member.recipe for member in members], stack.parameters)
    scheduler = recipe.scheduler(optimizer, recipe.epochs, len(batches))
    move = bare_step(optimizer)
    flops = work_of(members[0].model, batches.split.samples.spec).of_step(recipe.batch_size)
    precision = chosen_precision(recipe.precision, device, flops)  # as alone, whatever the stack would gain

    def learn(batch: Batch, seeds: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast(device, precision):
            logits = stack(batch.inputs, batches.which, seeds).float()
        terms = objective(Answer(logits), batch)
        for parameter in stack.parameters:
            parameter.grad = None
        terms["loss"].sum().backward()
        if recipe.clip is not None:
            clip(stack.parameters, recipe.clip)
        for group in optimizer.param_groups:
            for part, whole in zip(group["params"], stack.parameters, strict=True):
                part.grad = whole.grad[group["members"]] if whole.grad is not None else None
        move()
        scheduler.step()
        if recipe.max_norm is not None:
            constrain(stack.weights, recipe.max_norm)
        return logits.detach(), {name: term.detach() for name, term in terms.items()}

    tally = Tally(len(members), device)
    together_as_one = nn.ModuleList(member.model for member in members)
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    state = State(together_as_one, optimizer, scheduler, scaler, tally, len(batches))

    def watch(kernels: str) -> AbstractContextManager[Callable[[], None]]:
        how = {"precision": precision, "kernels": kernels}
        return checkpoint.watch(state, **how) if checkpoint is not None else nullcontext(lambda: None)

    operations = len(members) * flops
    with threads_for(operations), float32_kernels(device, operations) as kernels, watch(kernels) as keep:
        for epoch in range(state.epoch, recipe.epochs):
            if not any(tally.sane):
                break
            if state.step == 0:
                tally.begin([optimizer.param_groups[group]["lr"] for group in group_of])
            for step, batch in enumerate(batches.epoch(epoch, state.step), state.step):
                tally.add(batch, *learn(batch, [derive(seed, "dropout", epoch, step) for seed in batches.seeds]))
                state.step = step + 1
                on_step(epoch, step)
                keep()
            records = {}
            for k, figures in enumerate(tally.figures()):
                tally.sane[k] = tally.sane[k] and math.isfinite(figures["loss"])
                if not tally.sane[k]:
                    continue
                if validation is not None:
                    model = members[k].model
                    wrong = int((predict(model, validation, device).argmax(1) != validation.labels).sum())
                    figures["validation_accuracy"] = 1 - wrong / len(validation)
                    if recipe.select == "best_validation" and wrong < tally.fewest[k]:
                        own = {f"{k}.{name}": value.clone() for name, value in model.state_dict().items()}
                        state.best, tally.fewest[k] = (state.best or {}) | own, wrong
                records[k] = {"epoch": epoch + 1, "lr": tally.rates[k], **figures}
            state.epoch, state.step = epoch + 1, 0
            on_epoch(records)
            keep()
    if state.best is not None:
        together_as_one.load_state_dict(state.best, strict=False)
    for member in members:
        for parameter in member.model.parameters():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        member.model.eval()
    return tally.sane, precision


class Together(Batches):
    """The batches of several members: in each the samples of one seed after those of another, U seeds in all."""

    def __init__(self, members: list[Batches]) -> None:
        first = members[0]
        augment, targets = (first.augment, first.augment_seed, first.views), first.targets
        super().__init__(first.split, first.batch_size, first.seed, first.device, *augment, targets)
        self.members = list({member.seed: member for member in members}.values())
        self.seeds = [member.seed for member in self.members]
        which = torch.tensor([self.seeds.index(member.seed) for member in members], device=self.device)
        self.which = None if len(self.seeds) == len(members) else which

    def order(self, epoch: int) -> list[Tensor]:
        """The positions of each batch, `[U·n]`."""
        return [torch.cat(parts) for parts in zip(*(member.order(epoch) for member in self.members), strict=True)]

    def epoch(self, epoch: int, first: int = 0, last: int | None = None) -> Iterator[Batch]:
        """Images as they are drawn, `[U·n, …]`; labels and the teacher's logits of each member, `[S, n, …]`."""

        def share(value: Tensor) -> Tensor:
            parts: Tensor = value.unflatten(0, (len(self.seeds), -1))
            return parts if self.which is None else parts[self.which]

        for batch in super().epoch(epoch, first, last):
            teacher = None if batch.teacher is None else Answer(share(batch.teacher.logits))
            yield Batch(batch.inputs, share(batch.labels), teacher)


def together(objectives: list[Objective], device: torch.device) -> Callable[[Answer, Batch], dict[str, Tensor]]:
    """Each member's own objective, `[S]` for each term, of logits `[S, n, classes]`."""
    hinton = [objective for objective in objectives if isinstance(objective, Hinton)]
    if not hinton:
        return lambda answer, batch: {"loss": hard_losses(answer.logits, batch.labels)}
    numbers = [[member.temperature, member.soft_weight, member.hard_weight] for member in hinton]
    temperature, soft_weight, hard_weight = torch.tensor(numbers, dtype=torch.float32, device=device).unbind(1)

    def terms(answer: Answer, batch: Batch) -> dict[str, Tensor]:
        assert batch.teacher is not None
        logits, theirs = answer.logits, batch.teacher.logits
        student, teacher = (F.log_softmax(v / temperature.view(-1, 1, 1), -1) for v in (logits, theirs))
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum((1, 2)) / logits.shape[1]
        soft, hard = temperature**2 * divergence, hard_losses(logits, batch.labels)
        return {"loss": soft_weight * soft + hard_weight * hard, "soft": soft, "hard": hard}

    return terms


def hard_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """`hard_loss` of each member."""
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED, reduction="none")
    return each.reshape(labels.shape).sum(1) / (labels != UNLABELLED).sum(1).clamp(min=1)


def build(recipes: list[Recipe], parameters: list[Tensor]) -> tuple[Optimizer, list[int]]:
    """One optimizer with a parameter group for each run of members of the same numbers, and each member's group."""
    numbers = []
    for recipe in recipes:
        group = recipe.optimizer([nn.Parameter(torch.empty(0))]).param_groups[0]
        numbers.append({name: value for name, value in group.items() if name != "params"})
    groups: list[dict[str, Any]] = []
    group_of: list[int] = []
    for values, run in groupby(range(len(recipes)), key=numbers.__getitem__):
        slots = list(run)
        chosen = slice(slots[0], slots[-1] + 1)
        parts = [parameter.detach()[chosen] for parameter in parameters]
        group_of += [len(groups)] * len(slots)
        groups.append({**values, "params": parts, "members": chosen})
    return fused(recipes[0].optimizer)(groups), group_of


@torch.no_grad()
def clip(parameters: list[Tensor], bound: float) -> None:
    """Scales each member's gradient down to length `bound`, as `clip_grad_norm_` does for one network."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    length = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factor = (bound / (length + 1e-6)).clamp(max=1).view(-1, 1, 1)
    for gradient in gradients:
        gradient.mul_(factor)


@torch.no_grad()
def constrain(weights: list[Tensor], max_norm: float) -> None:
    """Scales each unit's incoming weights down to length `max_norm`, for stacks `[S, in, out]`."""
    for weight in weights:
        weight.mul_(max_norm / weight.norm(dim=1, keepdim=True).clamp(min=max_norm))
