import shutil
from pathlib import Path

import pytest
from running import TINY, Outcome, inside


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    done = inside("distill", *TINY, cwd=tmp_path_factory.mktemp("made"))
    assert done.status == 0, done.err
    return done


@pytest.fixture
def here(made: Outcome, tmp_path: Path) -> Path:
    shutil.copytree(made.run.parents[1], tmp_path / "outputs")
    return tmp_path
