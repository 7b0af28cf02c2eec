"""The `kd` command for the tests: the installed one, and the same in this process, where torch is imported but once."""

import contextlib
import io
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

KD = Path(sys.executable).with_name("kd")
TINY = ("teacher.train.epochs=6", "student.train.epochs=2")


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def run(self) -> Path:
        """The run's folder: what a run command prints."""
        return Path(self.out.rstrip("\n"))

    @property
    def result(self) -> dict[str, Any]:
        assert self.status == 0, self.err
        return json.loads((self.run / "result.json").read_text())


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", **variables}


def kd(*words: str, cwd: Path, **variables: str) -> Outcome:
    """Runs the installed `kd` in `cwd`."""
    done = subprocess.run(
        [str(KD), *words], cwd=cwd, env=environment(**variables), capture_output=True, text=True, encoding="utf-8"
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def inside(*words: str, cwd: Path) -> Outcome:
    """Runs the same command line in this process."""
    from kd_cli.cli.main import run

    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        logging_kept(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "argv", sys.argv),
        mock.patch.object(sys, "path", list(sys.path)),
    ):
        status = run(list(words))
    return Outcome(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def logging_kept() -> Iterator[None]:
    """Takes back what Hydra changes in `logging`, which outlives a command only here."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, logger in root.manager.loggerDict.items():
            if name.startswith(("hydra", "kd")) and isinstance(logger, logging.Logger):
                logger.setLevel(logging.NOTSET)


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes a manifest that agrees with itself, as whoever made the folder can."""
    from kd_cli.files.digests import sealed

    (folder / "manifest.json").write_text(sealed({key: value for key, value in manifest.items() if key != "digest"}))


def harm(path: Path, draw: random.Random) -> str:
    """Flips bits of one byte, or cuts a tail off, or removes the file; says which."""
    content, kind = bytearray(path.read_bytes()), draw.choice(("flip", "flip", "cut", "remove"))
    if kind == "remove":
        path.unlink()
        return kind
    if kind == "flip":
        content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
    else:
        del content[draw.randrange(len(content)) :]
    path.write_bytes(content)
    return kind
