from pathlib import Path

import pytest
from image_files import draw


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for k, name in enumerate(["train/cat/b.png", "train/cat/a.png", "train/dog/deep/c.PNG", "test/cat/d.png"]):
        draw(tmp_path / name, k)
    draw(tmp_path / "test/dog/e.bmp", 9, mode="L")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    return tmp_path
