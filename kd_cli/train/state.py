"""Where a training stands after a step: all that the next one depends on, as tensors and plain values."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_cli.store.tensor_header import Header
from kd_cli.train.plateau import Plateau
from kd_cli.train.stepping import bare_step

Value = TypeVar("Value")


class EpochMeter(Protocol):
    """What an epoch amounts to so far."""

    def pack(self) -> dict[str, Any]:
        """Return where the epoch stands, as plain values."""
        ...

    def restore(self, plain: dict[str, Any]) -> None:
        """Undo `pack`; raise ValueError and the like, and change nothing, for what it cannot be."""
        ...


AnyMeter = TypeVar("AnyMeter", bound=EpochMeter)


@dataclass
class State(Generic[AnyMeter]):
    """All that the next step depends on. `steps` is the number of steps an epoch, `epoch` that of the epochs done and
    `step` that of the steps done in the next one, whose figures so far `meter` has; `lr` is that of its first step.
    `best` are the weights with the `fewest` errors on the validation split, where those are kept; `figures` are those
    of each epoch done.
    """

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler
    meter: AnyMeter
    steps: int
    epoch: int = 0
    step: int = 0
    lr: float = math.nan
    best: dict[str, Tensor] | None = None
    fewest: float = math.inf
    figures: list[dict[str, float]] = field(default_factory=list)

    def note(self, figures: dict[str, float]) -> None:
        """Take note of what an epoch gave: a schedule may depend on it, and when the training ends."""
        self.figures.append(figures)
        if isinstance(self.scheduler, Plateau):
            self.scheduler.after(figures)

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all of it as tensors, copied to the CPU, and plain values. The schedule needs none: it follows from
        the steps done and from what the epochs gave.
        """
        packed = self.optimizer.state_dict()
        slots = {f"{index}/{name}": value for index, of in packed["state"].items() for name, value in of.items()}
        tensors = {
            **{f"model/{name}": value for name, value in self.model.state_dict().items()},
            **{f"best/{name}": value for name, value in (self.best or {}).items()},
            **{f"optimizer/{name}": value for name, value in slots.items() if isinstance(value, Tensor)},
        }
        plain = {
            "epoch": self.epoch,
            "step": self.step,
            "lr": self.lr,
            "meter": self.meter.pack(),
            "fewest": self.fewest,
            "figures": self.figures,
            "scaler": self.scaler.state_dict(),
            "slots": {name: value for name, value in slots.items() if not isinstance(value, Tensor)},
            "groups": [_numbers(group) for group in packed["param_groups"]],
        }
        apart = {  # safetensors wants each tensor for itself, tied weights too
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
        }
        return apart, plain

    @property
    def versions(self) -> int:
        """Return a number that is another one as soon as a step has begun to change a weight or a buffer."""
        weights = (weight for group in self.optimizer.param_groups for weight in group["params"])
        return sum(value._version for value in (*weights, *self.model.buffers()) if not value.is_inference())

    def check(self, header: Header, plain: dict[str, Any]) -> None:
        """Raise ValueError and the like unless tensors of these types and shapes, with these values, can be the state
        of this training. Nothing is changed.
        """
        own = {name: (value.dtype, tuple(value.shape)) for name, value in self.model.state_dict().items()}
        if _part(header, "model/") != own:
            raise ValueError("its weights are those of another network")
        if not _part(header, "best/").items() <= own.items():
            raise ValueError("its best weights are those of another network")
        parameters = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        if not all(isinstance(value, bool | int | float | None) for value in plain["slots"].values()):
            raise ValueError("its optimizer keeps no numbers")
        slots: dict[str, Any] = {**_part(header, "optimizer/"), **dict.fromkeys(plain["slots"])}
        if not all(0 <= int(name.partition("/")[0]) < len(parameters) for name in slots):
            raise ValueError("its optimizer has other weights")
        made = _slots(self.optimizer)
        begun = {name.partition("/")[0] for name in slots}
        wanted = {name: form for name, form in (made or {}).items() if name.partition("/")[0] in begun}
        if made is not None and wanted != slots:
            raise ValueError("its optimizer keeps something else")
        groups = self.optimizer.state_dict()["param_groups"]
        if [_numbers(group).keys() for group in groups] != [_numbers(group).keys() for group in plain["groups"]]:
            raise ValueError("its optimizer has other settings")
        if not all(math.isfinite(value) for group in plain["groups"] for value in group.values()):
            raise ValueError("its optimizer's settings are not numbers")
        scale = plain["scaler"]
        if scale.keys() != self.scaler.state_dict().keys() or not all(0 <= scale[key] < math.inf for key in scale):
            raise ValueError("its scale is none")
        if type(plain["lr"]) is not float or type(plain["fewest"]) not in (int, float):
            raise ValueError("its figures are not numbers")
        if len(plain["figures"]) not in (0, plain["epoch"]) or not all(
            type(value) in (int, float) for figures in plain["figures"] for value in figures.values()
        ):
            raise ValueError("its epochs' figures are not numbers")
        if isinstance(self.scheduler, Plateau) and not all(self.scheduler.watched in of for of in plain["figures"]):
            raise ValueError("its epochs lack what the schedule watches")
        if plain["step"] and not plain["meter"]["seen"]:
            raise ValueError("its steps have seen nothing")

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Undo `pack` in a training that has not begun, with what `check` has passed."""
        self.meter.restore(plain["meter"])
        self.epoch, self.step, self.lr, self.fewest = (plain[name] for name in ("epoch", "step", "lr", "fewest"))
        self.model.load_state_dict(_part(tensors, "model/"))
        self.best = _part(tensors, "best/") or None
        self.scaler.load_state_dict(plain["scaler"])
        for _ in range(self.epoch * self.steps + self.step):
            self.scheduler.step()
        for figures in plain["figures"]:
            self.note(figures)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        packed = self.optimizer.state_dict()
        for name, value in (_part(tensors, "optimizer/") | plain["slots"]).items():
            index, _, slot = name.partition("/")
            if isinstance(value, Tensor) and value.shape == parameters[int(index)].shape:
                value = torch.empty_like(parameters[int(index)]).copy_(value)  # fused kernels want the weights' layout
            packed["state"].setdefault(int(index), {})[slot] = value
        for group, kept in zip(packed["param_groups"], plain["groups"], strict=True):
            group.update(kept)
        self.optimizer.load_state_dict(packed)


def _part(of: dict[str, Value], kind: str) -> dict[str, Value]:
    return {key.removeprefix(kind): value for key, value in of.items() if key.startswith(kind)}


def _numbers(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if isinstance(value, bool | int | float)}


def _slots(optimizer: Optimizer) -> dict[str, Any] | None:
    """Return the type and shape of what an optimizer of torch's keeps for each weight after a step, or None for what is
    no tensor, by `<weight>/<name>`; None for somebody else's optimizer.
    """
    if not type(optimizer).__module__.startswith("torch.optim."):
        return None
    twin = copy.deepcopy(optimizer)
    for group in twin.param_groups:
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    bare_step(twin)()
    return {
        f"{index}/{name}": (value.dtype, tuple(value.shape)) if isinstance(value, Tensor) else None
        for index, of in twin.state_dict()["state"].items()
        for name, value in of.items()
    }
