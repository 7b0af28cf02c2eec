from pathlib import Path

import pytest
from running import TINY, inside


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outputs of one run, never to be changed."""
    folder = tmp_path_factory.mktemp("made")
    assert inside("distill", *TINY, "baseline=false", cwd=folder).status == 0
    return folder
