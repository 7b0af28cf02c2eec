"""What a service has told, written down as it comes: no request is paid twice.

A line for each answer, `{"key", "told", "crc32"}`: the SHA-256 of the request's body, a number for each class (null for
one that was not told) or the number of a class, and the checksum of these two. It is only ever added to. A line that
is not whole, as a process leaves it that is killed while it writes, counts as none.
"""

import errno
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from kd_cli.files import plain_file
from kd_cli.files.disk import written
from kd_cli.files.locks import alone
from kd_cli.progress import log

FOLDER = "answers"

Told = int | list[float | None]


class Book:
    """The answers of one service, below the output folder `root`."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.path = root / FOLDER / f"{name}.jsonl"
        self.told: dict[str, Told] = {}
        self._read, self._writing = 0, Lock()
        self._refresh()

    def __contains__(self, key: str) -> bool:
        return key in self.told

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the book, with all that others have written into it: whoever else would ask waits."""
        with alone(self.root, f"{FOLDER}/{self.name}"):
            self._refresh()
            self._mend()
            yield

    def add(self, key: str, told: Told) -> None:
        """Write an answer down, in the system's hands before this returns. The book is held."""
        with self._writing, written(self.path):
            handle, line = os.open(self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)), _line(key, told)
            try:
                if os.write(handle, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            finally:
                os.close(handle)
            self.told[key] = told
            self._read += len(line)

    def _refresh(self) -> None:
        """Read what has been added since; what is torn at the end is cut off by whoever holds the book and adds."""
        plain_file.expect(self.path, "file", rebuild=False)
        with written(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            with self.path.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        whole, newline, torn = content.rpartition(b"\n")
        damaged = 0
        for line in whole.split(b"\n") if newline else ():
            try:
                content = json.loads(line)
                key, told = content["key"], content["told"]
                if _line(key, told) != line + b"\n":
                    raise ValueError("it is not as it was written")
                self.told[key] = told
            except (ValueError, KeyError, TypeError, RecursionError):
                damaged += bool(line)
        if damaged:
            log.info("%s: %d line(s) are damaged, and count as not there", self.path, damaged)
        self._read += len(whole) + len(newline)
        self._torn = bool(torn)

    def _mend(self) -> None:
        """End a line that was torn, so that the next one is whole. The book is held."""
        if self._torn:
            with written(self.path), self.path.open("ab") as file:
                file.write(b"\n")
            self._read, self._torn = self.path.stat().st_size, False


def _line(key: Any, told: Any) -> bytes:
    said = json.dumps({"key": key, "told": told}, separators=(",", ":"))
    return f'{said[:-1]},"crc32":{zlib.crc32(said.encode())}}}\n'.encode()
