from pathlib import Path

import pytest
from running import Outcome, kd
from sweeping import COMMAND


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The working folder of a sweep by the installed command, and what it printed."""
    folder = tmp_path_factory.mktemp("swept")
    done = kd(*COMMAND, cwd=folder)
    assert done.status == 0, done.err
    return folder, done
