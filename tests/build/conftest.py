from pathlib import Path

import pytest
from running import TINY, inside


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's student, among files that Python, Hydra or torch would import if they looked there."""
    folder = tmp_path_factory.mktemp("made")
    result = inside("distill", *TINY, "baseline=false", cwd=folder).result
    return folder / "outputs" / result["student"]["artifact"]
