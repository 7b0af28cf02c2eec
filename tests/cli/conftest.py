from pathlib import Path

import pytest
from running import TINY, inside

IDX = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outputs of one run, never to be changed."""
    folder = tmp_path_factory.mktemp("made")
    assert inside("distill", *TINY, "baseline=false", cwd=folder).status == 0
    return folder
