"""What a step of a stack needs besides the network: the members' batches, objectives and optimizers as one.

Of S members with U different seeds; `n` is the number of samples in a batch.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from kd_cli.data.samples import UNLABELLED, Answer, Batch
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches, weight_of
from kd_cli.train.fit import Objective
from kd_cli.train.recipe import Recipe
from kd_cli.train.stepping import fused


class StackedBatches(Batches):
    """The batches of several members: in each the samples of one seed after those of another, U seeds in all."""

    def __init__(self, members: list[Batches]) -> None:
        first = members[0]
        augment, targets = (first.augment, first.augment_seed, first.views), first.targets
        super().__init__(first.split, first.batch_size, first.seed, first.device, *augment, targets, None, first.untold)
        self.members = list({member.seed: member for member in members}.values())
        self.seeds = [member.seed for member in self.members]
        which = torch.tensor([self.seeds.index(member.seed) for member in members], device=self.device)
        self.which = None if len(self.seeds) == len(members) else which

    def order(self, epoch: int) -> list[Tensor]:
        """Return the positions of each batch, `[U·n]`."""
        return [torch.cat(parts) for parts in zip(*(member.order(epoch) for member in self.members), strict=True)]

    def epoch(self, epoch: int, first: int = 0, last: int | None = None) -> Iterator[Batch]:
        """Give images as drawn, `[U·n, …]`, with labels and the teacher's logits of each member, `[S, n, …]`."""

        def share(value: Tensor) -> Tensor:
            parts: Tensor = value.unflatten(0, (len(self.seeds), -1))
            return parts if self.which is None else parts[self.which]

        for batch in super().epoch(epoch, first, last):
            teacher = None if batch.teacher is None else Answer(share(batch.teacher.logits))
            if batch.teacher is not None and batch.teacher.weight is not None:
                weight = weight_of(share(batch.teacher.weight > 0))
                teacher = Answer(share(batch.teacher.logits), weight=weight)
            yield Batch(batch.inputs, share(batch.labels), teacher)


def stacked_objective(
    objectives: list[Objective], device: torch.device
) -> Callable[[Answer, Batch], dict[str, Tensor]]:
    """Return each member's own objective, `[S]` for each term, of logits `[S, n, classes]`."""
    hinton = [objective for objective in objectives if isinstance(objective, Hinton)]
    if not hinton:
        return lambda answer, batch: {"loss": hard_loss_each(answer.logits, batch.labels)}
    numbers = [[member.temperature, member.soft_weight, member.hard_weight] for member in hinton]
    temperature, soft_weight, hard_weight = torch.tensor(numbers, dtype=torch.float32, device=device).unbind(1)

    def terms(answer: Answer, batch: Batch) -> dict[str, Tensor]:
        assert batch.teacher is not None
        logits, theirs = answer.logits, batch.teacher.logits
        student, teacher = (F.log_softmax(v / temperature.view(-1, 1, 1), -1) for v in (logits, theirs))
        each = F.kl_div(student, teacher, reduction="none", log_target=True)
        if batch.teacher.weight is not None:
            each = each * batch.teacher.weight[..., None]
        divergence = each.sum((1, 2)) / logits.shape[1]
        soft, hard = temperature**2 * divergence, hard_loss_each(logits, batch.labels)
        return {"loss": soft_weight * soft + hard_weight * hard, "soft": soft, "hard": hard}

    return terms


def hard_loss_each(logits: Tensor, labels: Tensor) -> Tensor:
    """Return `hard_loss` of each member, `[S]`."""
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=UNLABELLED, reduction="none")
    return each.reshape(labels.shape).sum(1) / (labels != UNLABELLED).sum(1).clamp(min=1)


def stacked_optimizer(recipes: list[Recipe], parameters: list[Tensor]) -> tuple[Optimizer, list[int]]:
    """Return an optimizer with a parameter group for each run of members of one set of numbers, and their groups."""
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
def clip_each(parameters: list[Tensor], bound: float) -> None:
    """Scale each member's gradient down to length `bound`, as `clip_grad_norm_` does for one network."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    length = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factor = (bound / (length + 1e-6)).clamp(max=1).view(-1, 1, 1)
    for gradient in gradients:
        gradient.mul_(factor)


@torch.no_grad()
def constrain_each(weights: list[Tensor], max_norm: float) -> None:
    """Scale each unit's incoming weights down to length `max_norm`, for stacks `[S, in, out]`."""
    for weight in weights:
        weight.mul_(max_norm / weight.norm(dim=1, keepdim=True).clamp(min=max_norm))
