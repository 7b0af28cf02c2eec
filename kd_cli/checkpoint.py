"""Where a training stands after a step, on disk: killed anywhere, it goes on from there, to the same bits.

Order, augmentation and dropout of a step derive from (seed, epoch, step): no random generator's state is kept. One file
of safetensors holds everything, its plain values as JSON in the metadata: it is replaced whole, and checked when read.
"""

import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_cli.artifacts import CHECKPOINT, whole
from kd_cli.meter import Meter
from kd_cli.progress import log

FILE = f"{CHECKPOINT}safetensors"
HISTORY = "history.jsonl"
# Slurm gives the last one as a warning; Windows does not have it.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@dataclass
class State:
    """All that the next step depends on. `steps` is the number of steps an epoch, `epoch` that of the epochs done and
    `step` that of the steps done in the next one, whose figures so far `meter` has; `lr` is that of its first step.
    `best` are the weights with the `fewest` errors on the validation split, where those are kept.
    """

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler
    meter: Meter
    steps: int
    epoch: int = 0
    step: int = 0
    lr: float = math.nan
    best: dict[str, Tensor] | None = None
    fewest: float = math.inf

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, copied to the CPU, and plain values. The schedule needs none: it follows from the steps done."""
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
            "scaler": self.scaler.state_dict(),
            "slots": {name: value for name, value in slots.items() if not isinstance(value, Tensor)},
            "groups": [
                {key: value for key, value in group.items() if isinstance(value, bool | int | float)}
                for group in packed["param_groups"]
            ],
        }
        apart = {  # safetensors wants each tensor for itself, tied weights too
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
        }
        return apart, plain

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """The reverse of `pack`, into a training that has not begun."""

        def part(kind: str) -> dict[str, Tensor]:
            return {key.removeprefix(kind): value for key, value in tensors.items() if key.startswith(kind)}

        self.epoch, self.step, self.lr, self.fewest = (plain[name] for name in ("epoch", "step", "lr", "fewest"))
        self.meter.restore(plain["meter"])
        self.model.load_state_dict(part("model/"))
        self.best = part("best/") or None
        self.scaler.load_state_dict(plain["scaler"])
        for _ in range(self.epoch * self.steps + self.step):
            self.scheduler.step()
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        packed = self.optimizer.state_dict()
        for name, value in (part("optimizer/") | plain["slots"]).items():
            index, _, slot = name.partition("/")
            if isinstance(value, Tensor) and value.shape == parameters[int(index)].shape:
                value = torch.empty_like(parameters[int(index)]).copy_(value)  # fused kernels want the weights' layout
            packed["state"].setdefault(int(index), {})[slot] = value
        for group, kept in zip(packed["param_groups"], plain["groups"], strict=True):
            group.update(kept)
        self.optimizer.load_state_dict(packed)


class Checkpoint:
    """The checkpoint of one training in its unfinished artifact's `folder`, with the history so far.

    One is written at the end of every `every_epochs`-th epoch, after the first step that ends `every_minutes` or more
    after the last one, and when a signal wants the process to end; null is never. `environment` is what the bits of a
    result depend on besides the config.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        epochs: int,
        every_epochs: int | None,
        every_minutes: float | None,
        environment: dict[str, Any],
    ) -> None:
        self.folder, self.title, self.epochs, self.environment = folder, title, epochs, environment
        self.every_epochs, self.every_minutes = every_epochs, every_minutes
        self.kept = ""  # how far the checkpoint that is kept has come
        self._saved = time.monotonic()
        self._struck: int | None = None  # the signal that wants the process to end

    @contextmanager
    def watch(self, state: State, precision: str) -> Iterator[Callable[[], None]]:
        """Goes on from where an earlier attempt was, and gives what is to be called after each step and each epoch.

        A signal to end waits meanwhile for the end of its step, so that what is written down is whole; then it is
        raised as KeyboardInterrupt. Whoever presses Ctrl-C twice does not wait.
        """
        self._load(state, precision)
        previous = {}
        if threading.current_thread() is threading.main_thread():
            previous = {number: signal.signal(number, self._strike) for number in SIGNALS}
        try:
            yield lambda: self._save(state)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _strike(self, number: int, frame: Any) -> None:
        if self._struck is not None and number == signal.SIGINT:
            raise KeyboardInterrupt(number)
        self._struck = self._struck or number

    def _load(self, state: State, precision: str) -> None:
        """Brings `state` and the history to where an earlier attempt was, if one can be continued here. A checkpoint
        that is damaged, or was made under other circumstances, is left aside: the log says so.
        """
        self.environment = {**self.environment, "precision": precision, "threads": torch.get_num_threads()}
        history = ""
        if (self.folder / FILE).exists():
            try:
                tensors, plain = _read(self.folder / FILE)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                log.info("%s: its checkpoint is damaged (%s): starting anew", self.title, error)
            else:
                then, now = plain["environment"], self.environment
                other = [f"{key} {then.get(key)}, now {now[key]}" for key in now if then.get(key) != now[key]]
                if other:
                    log.info("%s: its checkpoint was made with %s: starting anew", self.title, "; ".join(other))
                else:
                    state.restore(tensors, plain)
                    history, self.kept = plain["history"], self._place(state)
                    log.info("%s: going on %s", self.title, self.kept)
        (self.folder / HISTORY).write_text(history, encoding="utf-8")

    def _place(self, state: State) -> str:
        if state.step == 0:
            return f"after epoch {state.epoch} of {self.epochs}"
        return f"in epoch {state.epoch + 1} of {self.epochs}, after {state.step} of {state.steps} steps"

    def _save(self, state: State) -> None:
        """Writes a checkpoint if one is due; ends the training if a signal wants that."""
        by_epochs = self.every_epochs is not None and state.step == 0 and state.epoch % self.every_epochs == 0
        by_time = self.every_minutes is not None and time.monotonic() - self._saved >= 60 * self.every_minutes
        never = self.every_epochs is None and self.every_minutes is None
        if by_epochs or by_time or (self._struck is not None and not never):
            self._write(state)
        if self._struck is not None:
            raise KeyboardInterrupt(self._struck)

    def _write(self, state: State) -> None:
        tensors, plain = state.pack()
        plain |= {"environment": self.environment, "history": (self.folder / HISTORY).read_text("utf-8")}
        try:
            text = json.dumps(plain)
        except TypeError as error:  # an optimizer may be anybody's
            log.info("%s: goes without checkpoints, its optimizer's state is none of tensors (%s)", self.title, error)
            self.every_epochs = self.every_minutes = None
            return
        with whole(self.folder / FILE) as working:
            save_file(tensors, working, {"plain": text, "sha256": _digest(tensors, text)})
        self.kept, self._saved = self._place(state), time.monotonic()

    def forget(self) -> None:
        """Removes the checkpoint of a training that cannot succeed."""
        (self.folder / FILE).unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    if _digest(tensors, metadata["plain"]) != metadata["sha256"]:
        raise ValueError("its checksum differs")
    plain: dict[str, Any] = json.loads(metadata["plain"])
    return tensors, plain


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 of everything in a checkpoint."""
    sha = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
