import shutil
from pathlib import Path

import pytest
from running import TINY, Outcome, inside

from kd_cli.store.artifacts import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("stored")
    done = inside("distill", *TINY, "dataset.validation=100", cwd=folder)
    assert done.status == 0, done.err
    return done


@pytest.fixture(scope="module")
def outputs(made: Outcome) -> Path:
    return made.run.parents[1]


@pytest.fixture
def student(made: Outcome, outputs: Path, tmp_path: Path) -> Path:
    """A copy of the student's folder, to be changed."""
    return Path(shutil.copytree(outputs / made.result["student"]["artifact"], tmp_path / "student"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")
