import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import TINY, Outcome, inside


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The working folder of a first run, and that run."""
    folder = tmp_path_factory.mktemp("first")
    done = inside("distill", *TINY, cwd=folder)
    assert done.status == 0, done.err
    return folder, done


@pytest.fixture
def again(first: tuple[Path, Outcome], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs `kd distill` with more overrides beside a copy of the first run's outputs."""
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")

    def run(*words: str) -> dict[str, Any]:
        return inside("distill", *TINY, *words, cwd=tmp_path).result

    return run
