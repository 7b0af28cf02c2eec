from functools import partial
from pathlib import Path

import pytest
from told import tell

from kd_cli.data.samples import Split
from kd_cli.store.artifacts import Store
from kd_cli.targets.soft_targets import Storage, write_targets


@pytest.fixture
def dump(tmp_path: Path):
    def make(split: Split, views: int = 3, dtype: str = "float16", logits=None, identity: str = "a"):
        def fill(folder: Path) -> dict[str, object]:
            write_targets(
                folder, lambda view: (logits or partial(tell, split))(view).split(7), split, views, Storage(dtype)
            )
            return {}

        return Store(tmp_path).write("soft_targets", {"of": identity}, fill)

    return make
