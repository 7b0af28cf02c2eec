"""A service and the book of what it told: what is missing there is asked, several samples at a time."""

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kd_cli.data.augment import Augment
from kd_cli.data.inputs import each
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Dataset, Split
from kd_cli.data.views import show
from kd_cli.errors import DataError, ForeignError, Phrase, must
from kd_cli.files.digests import id_of
from kd_cli.progress import log
from kd_cli.teachers.named import called, list_of
from kd_cli.teachers.service.asking import Asker, Refused, Stop, Unanswered
from kd_cli.teachers.service.book import Book, Told
from kd_cli.teachers.service.content import Sample
from kd_cli.teachers.service.protocols import Protocol
from kd_cli.teachers.told import Form, as_row, look

if TYPE_CHECKING:
    from kd_cli.teachers.service.source import Http

PROBE = 8  # samples whose answers are part of the identity
BLOCK = 64  # samples that are prepared, and given on, together
AHEAD = 512  # samples that may wait for their answer: all of it is in memory
HOPELESS = 20  # samples in a row without an answer: the service is down
KEPT = "The same command asks for the rest alone."


class Inquiry:
    """See `Answering`."""

    as_they_are = False
    free = False

    def __init__(
        self, source: "Http", protocol: Protocol, url: str, asker: Asker, dataset: Dataset, root: Path
    ) -> None:
        self.source, self.protocol, self.name, self.asker, self.dataset = source, protocol, url, asker, dataset
        self.allowed = source.allow_missing
        self.book = Book(root, id_of({"url": url, **protocol.stated}))
        self.order = [protocol.classes.index(name) for name in dataset.classes]
        self.form = Form("logits")
        self.failed: dict[str, str] = {}  # sample → why
        self._digest, self._in_a_row = "", 0

    @property
    def top_k(self) -> int | None:
        """See `Answering`."""
        return self.form.top_k

    @property
    def labels(self) -> bool:
        """See `Answering`."""
        return self.form.labels

    def probe(self) -> None:
        """Ask about a few samples, the first of them alone; see what the answers are. Raises ForeignError."""
        split = self.dataset.transfer
        chosen = torch.linspace(0, len(split) - 1, min(PROBE, len(split))).long()
        keys = {key for key, _, _ in self._bodies(split, None, 0, 0, chosen)}
        if len(keys) == 1 < len(split.samples.checksums()[chosen].unique()):
            hint = "Every request would be the same. Write where the sample goes: {input}, or of images {png}."
            raise must(".request", "a template with the sample in it", self.protocol.request, hint)
        told = [row for part in (chosen[:1], chosen[1:]) if len(part) for row in self._told(split, None, 0, 0, part)]
        if self.failed and (not self.allowed or not any(one is not None for one in told)):
            raise self._unanswered(len(chosen))
        values = torch.tensor([self._row(one) for one in told], dtype=torch.float64)
        try:
            self.form = look(values, self.source.gives, all(isinstance(one, int) for one in told if one is not None))
        except ValueError as error:
            raise DataError.must(".url", "a service that tells classes", Phrase(f"{self.name}: {error}")) from error
        chances = self.form.to_logits(values).softmax(1)
        self._digest = hashlib.sha256(
            str([[round(p, 3) for p in row] for row in chances.tolist()]).encode()
        ).hexdigest()
        log.info("%s tells %s", self.name, self.form)

    def identity(self) -> dict[str, Any]:
        """Return what it declares, and what it said of the probe."""
        declared = {"url": self.name, **self.protocol.stated, "gives": self.source.gives}
        return {"service": declared, "classes": list(self.dataset.classes), "probe": self._digest}

    def check(self, split: Split) -> None:
        """See `Answering`: nobody knows before it is asked."""

    def untold(self, split: Split) -> str:
        """Return why it cannot be judged on this split, which it is asked about now."""
        if not self.source.evaluate:
            return "teacher.evaluate=false"
        lacking = sum(bool(row.isnan().all()) for block in self._all(split) for row in block)
        return f"{self.name} gave no answer for {lacking} of the {len(split):,} test samples" if lacking else ""

    def _all(self, split: Split) -> Iterator[Tensor]:
        return self.predictions(split, None, 0, 0, torch.arange(len(split)))

    def predictions(
        self, split: Split, augment: Augment | Mix | None, augment_seed: int, view: int, positions: Tensor
    ) -> Iterator[Tensor]:
        """See `Answering`. Raises ForeignError, all failures listed, where too many samples got no answer."""
        self.failed = {}
        block: list[list[float]] = []
        for told in self._told(split, augment, augment_seed, view, positions):
            block.append(self._row(told))
            if len(block) == BLOCK:
                yield self._logits(block)
                block = []
        if len(self.failed) > self.allowed * len(positions):
            raise self._unanswered(len(positions))
        if self.failed:
            log.info(
                "%s gave no answer for %d of %d samples: %s", self.name, len(self.failed), len(positions), self._why()
            )
        if block:
            yield self._logits(block)

    def _logits(self, block: list[list[float]]) -> Tensor:
        return self.form.to_logits(torch.tensor(block, dtype=torch.float64))[:, self.order]

    def _row(self, told: Told | None) -> list[float]:
        classes = len(self.protocol.classes)
        if told is None:
            return [math.nan] * classes
        if isinstance(told, int):
            return as_row(told, classes)
        return [math.nan if value is None else value for value in told]

    def _told(
        self, split: Split, augment: Augment | Mix | None, seed: int, view: int, positions: Tensor
    ) -> Iterator[Told | None]:
        """What the book says of each position, once the service was asked for what it lacks; None where that failed.

        Each comes as soon as those before it are there. The book is held from the first question on.
        """
        pool, waiting = ThreadPoolExecutor(self.source.concurrency), dict[str, Future[None]]()
        pending: deque[tuple[str, str]] = deque()
        holding = False

        def next_one() -> Told | None:
            key, name = pending.popleft()
            if key in waiting:
                self._result(waiting[key], name)
            return self.book.told.get(key)

        with ExitStack() as held:
            try:
                for key, body, name in self._bodies(split, augment, seed, view, positions):
                    if key not in self.book and not holding:
                        holding = True
                        held.enter_context(self.book.alone())
                        held.enter_context(self.asker.opened())
                    if key not in self.book and key not in waiting:
                        waiting[key] = pool.submit(self._ask, key, body)
                    pending.append((key, name))
                    if len(pending) > AHEAD:
                        yield next_one()
                while pending:
                    yield next_one()
            except Stop as why:
                self.asker.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                said = f"{self.name}: {why}. {len(self.book.told):,} answers are kept."
                raise ForeignError(said, KEPT) from None
            except BaseException:
                self.asker.stop()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)  # what was sent is waited for: it is paid

    def _bodies(
        self, split: Split, augment: Augment | Mix | None, seed: int, view: int, positions: Tensor
    ) -> Iterator[tuple[str, bytes, str]]:
        """The key, the request's body and the name of each sample."""
        names, blocks = called(split), positions.split(BLOCK)
        for chosen, shown in zip(blocks, show(split, blocks, torch.device("cpu"), augment, seed, view), strict=True):
            for k, place in enumerate(chosen.tolist()):
                stored = each(shown.stored, lambda value, k=k: value[k])  # type: ignore[misc]
                asked = self.protocol.body(Sample(split.samples.spec, stored, names[place]))
                body = json.dumps(asked, separators=(",", ":"), ensure_ascii=False).encode()
                yield hashlib.sha256(body).hexdigest(), body, names[place]

    def _result(self, future: Future[None], name: str) -> None:
        try:
            future.result()
            self._in_a_row = 0
        except (Unanswered, Refused) as error:
            self.failed[name] = str(error)
            self._in_a_row += 1
            if self._in_a_row >= HOPELESS:
                raise Stop(f"{HOPELESS} samples in a row got no answer ({error})") from error

    def _ask(self, key: str, body: bytes) -> None:
        said = self.asker.ask(body, self.protocol.understand)
        classes = len(self.protocol.classes)
        if self._digest and isinstance(said, int) != self.form.labels:
            raise Refused(f"an answer of another kind than the probe's, {self.form}")
        if self._digest and isinstance(said, dict) and len(said) < classes and self.form.top_k is None:
            raise Refused(f"numbers for {len(said)} of {classes} classes")
        told: Told = said if isinstance(said, int) else [None if math.isnan(v) else v for v in as_row(said, classes)]
        if isinstance(told, list) and not all(value is None or math.isfinite(value) for value in told):
            raise Refused("an answer that is no number")
        self.book.add(key, told)

    def _unanswered(self, asked: int) -> ForeignError:
        share = min(1.0, len(self.failed) / asked + 0.0005)
        said = f"{self.name} gave no answer for {len(self.failed)} of {asked:,} samples:\n  {self._why()}"
        return ForeignError(said, f"\n{KEPT} {{}}={share:.3f} lets these go on without an answer.", ".allow_missing")

    def _why(self) -> str:
        return list_of([f"{name} ({why})" for name, why in self.failed.items()], 50)
