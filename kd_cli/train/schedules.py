"""Learning-rate schedules: torch's own, told how long the run is. Each moves once a step."""

import warnings
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, OneCycleLR, SequentialLR

from kd_cli.ranges import number

# SequentialLR of torch 2.6 calls its parts in a way that it warns of itself.
warnings.filterwarnings("ignore", "The epoch parameter in `scheduler.step", UserWarning)


def constant(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> LRScheduler:
    """Return a schedule that keeps the optimizer's learning rate throughout."""
    return MultiStepLR(optimizer, [])


def cosine(optimizer: Optimizer, epochs: int, steps_per_epoch: int, warmup: float = 0.0) -> LRScheduler:
    """Return a schedule of half a cosine down to 0 (Loshchilov and Hutter 2017), after a linear rise over `warmup` of
    the run.
    """
    number(".train.scheduler.warmup", warmup, at_least=0, below=1, what="a share of the run,")
    steps = epochs * steps_per_epoch
    rise = round(warmup * steps)
    if not rise:
        return CosineAnnealingLR(optimizer, steps)
    parts = [LinearLR(optimizer, 1 / (rise + 1), total_iters=rise), CosineAnnealingLR(optimizer, max(1, steps - rise))]
    return SequentialLR(optimizer, parts, [rise])


def one_cycle(
    optimizer: Optimizer,
    epochs: int,
    steps_per_epoch: int,
    rise: float = 0.3,
    momentum: tuple[float, float] | None = None,
) -> LRScheduler:
    """Return a schedule up to the optimizer's learning rate over `rise` of the run, then down to nearly 0 (Smith and
    Topin 2018).

    `momentum` (low, high) cycles the momentum the other way round; by default it stays as it is.
    """
    number(".train.scheduler.rise", rise, above=0, below=1, what="a share of the run,")
    low, high = momentum or (0.0, 0.0)
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=epochs * steps_per_epoch + 1,
        pct_start=rise,
        cycle_momentum=momentum is not None,
        base_momentum=low,
        max_momentum=high,
    )


def multi_step(
    optimizer: Optimizer, epochs: int, steps_per_epoch: int, milestones: Sequence[int] = (), gamma: float = 0.1
) -> LRScheduler:
    """Return a schedule that multiplies the learning rate by `gamma` at the start of each of these epochs."""
    return MultiStepLR(optimizer, [epoch * steps_per_epoch for epoch in milestones], gamma)
