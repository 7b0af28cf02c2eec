import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ensembles import WORDS
from running import Outcome, inside


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("first")
    done = inside("distill", *WORDS, cwd=folder)
    assert done.status == 0, done.err
    return folder, done


@pytest.fixture
def again(first: tuple[Path, Outcome], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")

    def run(*words: str) -> dict[str, Any]:
        return inside("distill", *WORDS, *words, cwd=tmp_path).result

    return run
