import importlib
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import TINY, Outcome, inside

import kd_cli


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    done = inside("distill", *TINY, "targets.top_k=3", "baseline=false", cwd=tmp_path_factory.mktemp("made"))
    assert done.status == 0, done.err
    kd_cli.load(done.run)
    importlib.import_module("torchvision")  # opens libraries
    return done


@pytest.fixture
def outputs(made: Outcome, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.run.parents[1], tmp_path / "outputs"))


@pytest.fixture
def student(made: Outcome, outputs: Path) -> Path:
    return outputs / made.result["student"]["artifact"]


@pytest.fixture
def watched(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Little more memory than there is now, an end to waiting, and nothing done that is watched."""

    def waits(*_: Any) -> None:
        raise AssertionError("it waits for ever")

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("KD_SECRET", "0.123")
    limits, before = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, waits)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), limits[1]))
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert list((tmp_path / "here").iterdir()) == []
