"""Where a training stands after a step, on disk: killed anywhere, it goes on from there, to the same bits.

Order, augmentation and dropout of a step derive from (seed, epoch, step): no random generator's state is kept. One file
of safetensors holds everything, its plain values as JSON in the metadata: it is replaced whole, and checked when read.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kd_cli.errors import TrainingError, first_line
from kd_cli.files.disk import written
from kd_cli.interruption import Hold
from kd_cli.progress import log
from kd_cli.store.artifacts import CHECKPOINT, whole_file
from kd_cli.store.history import HISTORY, read_history
from kd_cli.store.tensor_header import Header, header_of
from kd_cli.train.state import AnyMeter, State

FILE = f"{CHECKPOINT}safetensors"
LARGEST = 16  # times the weights: more than any optimizer keeps


class Checkpoint:
    """The checkpoint of one training in its unfinished artifact's `folder`, with the history so far.

    One is written at the end of every `every_epochs`-th epoch, after the first step that ends `every_minutes` or more
    after the last one, and when a signal or an error ends the training; null is never. `environment` is what the bits
    of a result depend on besides the config, `identity` the digest of all that determines the result.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        epochs: int,
        every_epochs: int | None,
        every_minutes: float | None,
        environment: dict[str, Any],
        identity: str = "",
    ) -> None:
        self.folder, self.title, self.epochs, self.environment = folder, title, epochs, environment
        self.every_epochs, self.every_minutes, self.identity = every_epochs, every_minutes, identity
        self.kept = ""  # how far the checkpoint that is kept has come
        self.hold = Hold()  # a signal to end waits for the end of its step, so that what is written down is whole
        self._saved = time.monotonic()
        self._whole = 0  # the state's versions when its last step was done

    @contextmanager
    def resumed(self, state: State[AnyMeter], **circumstances: Any) -> Iterator[Callable[[], None]]:
        """Go on from where an earlier attempt was, if that was under the same circumstances, and give what is to be
        called after each step and each epoch.

        An error leaves a checkpoint of the last step that was done, as a signal does, but where the loss is lost.
        """
        self.environment = {**self.environment, **circumstances, "threads": torch.get_num_threads()}
        self._load(state)
        self._whole = state.versions
        with self.hold:
            try:
                yield lambda: self._save(state)
            except TrainingError:
                raise
            except Exception:
                if not self._never and self._whole == state.versions and (state.epoch, state.step) != (0, 0):
                    with suppress(Exception):  # the error itself is what is told
                        self._write(state)
                raise

    @property
    def _never(self) -> bool:
        return self.every_epochs is None and self.every_minutes is None

    def _load(self, state: State[AnyMeter]) -> None:
        """Bring `state` and the history to where an earlier attempt was, if one can be continued here. A checkpoint
        that is damaged, or was made under other circumstances, is left aside: the log says so.
        """
        history = ""
        if (self.folder / FILE).exists():
            try:
                header, plain = _about(self.folder / FILE)
                then, now = plain["environment"], self.environment
                other = [f"{key} {then.get(key)}, now {now[key]}" for key in now if then.get(key) != now[key]]
                if plain["identity"] != self.identity:
                    other = ["another config or data"]
                if not other:
                    self._check(state, header, plain)
                    state.restore(_read(self.folder / FILE)[0], plain)
                    history, self.kept = plain["history"], self._place(state)
            except Exception as error:  # a file may hold anything
                log.info("%s: its checkpoint is damaged (%s): starting anew", self.title, first_line(error)[:200])
            else:
                if other:
                    log.info("%s: its checkpoint was made with %s: starting anew", self.title, "; ".join(other))
                else:
                    log.info("%s: going on %s", self.title, self.kept)
        with written(self.folder):
            (self.folder / HISTORY).write_text(history, encoding="utf-8")

    def _check(self, state: State[AnyMeter], header: Header, plain: dict[str, Any]) -> None:
        """Raise ValueError or TypeError unless a training of this length can have come so far."""
        weights = sum(value.nbytes for value in state.model.state_dict().values())
        if (self.folder / FILE).stat().st_size > LARGEST * weights + (1 << 28):
            raise ValueError("it is too large for this network")
        epoch, step = plain["epoch"], plain["step"]
        if type(epoch) is not int or type(step) is not int:
            raise ValueError("its steps are no whole numbers")
        if not (0 <= epoch <= self.epochs and 0 <= step <= (state.steps if epoch < self.epochs else 0)):
            raise ValueError(f"it is of epoch {epoch} and step {step}")
        if len(read_history(plain["history"])) not in (0, epoch):
            raise ValueError("its history is of other epochs")
        state.check(header, plain)

    def _place(self, state: State[AnyMeter]) -> str:
        if state.step == 0:
            return f"after epoch {state.epoch} of {self.epochs}"
        return f"in epoch {state.epoch + 1} of {self.epochs}, after {state.step} of {state.steps} steps"

    def _save(self, state: State[AnyMeter]) -> None:
        """Write a checkpoint if one is due; end the training if a signal wants that."""
        self._whole, struck = state.versions, self.hold.struck
        by_epochs = self.every_epochs is not None and state.step == 0 and state.epoch % self.every_epochs == 0
        by_time = self.every_minutes is not None and time.monotonic() - self._saved >= 60 * self.every_minutes
        if by_epochs or by_time or (struck is not None and not self._never):
            self._write(state)
        if struck is not None:
            raise KeyboardInterrupt(struck)

    def _write(self, state: State[AnyMeter]) -> None:
        tensors, plain = state.pack()
        history = (self.folder / HISTORY).read_text("utf-8")
        plain |= {"environment": self.environment, "identity": self.identity, "history": history}
        try:
            text = json.dumps(plain)
        except TypeError as error:  # an optimizer may be anybody's
            log.info("%s: goes without checkpoints, its optimizer's state is none of tensors (%s)", self.title, error)
            self.every_epochs = self.every_minutes = None
            return
        with whole_file(self.folder / FILE) as working:
            save_file(tensors, working, {"plain": text, "sha256": _digest(tensors, text)})
        self.kept, self._saved = self._place(state), time.monotonic()

    def forget(self) -> None:
        """Remove the checkpoint of a training that cannot succeed."""
        (self.folder / FILE).unlink(missing_ok=True)


def _about(path: Path) -> tuple[Header, dict[str, Any]]:
    """Return what a checkpoint says that it holds; ValueError and the like for what is none."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is no plain file")
    header = header_of(path)
    with safe_open(path, "pt") as file:
        plain: dict[str, Any] = json.loads(file.metadata()["plain"])
    return header, plain


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    if _digest(tensors, metadata["plain"]) != metadata["sha256"]:
        raise ValueError("its checksum differs")
    plain: dict[str, Any] = json.loads(metadata["plain"])
    return tensors, plain


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """Return the SHA-256 of everything in a checkpoint."""
    sha = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
