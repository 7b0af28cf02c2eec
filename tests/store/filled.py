"""An artifact of little, and what may lie in its place."""

import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from kd_cli.files.digests import id_of

IDENTITY = {"stage": "teacher", "seed": 0}
FILES = ("config.yaml", "history.jsonl", "model.safetensors")


def fill(folder: Path, value: float = 1.0, note: str = "") -> dict[str, object]:
    save_file({"weight": torch.full((3,), value)}, folder / "model.safetensors")
    (folder / "config.yaml").write_text(f"note: '{note}'\n")
    (folder / "history.jsonl").write_text('{"epoch": 1}\n')
    return {"environment": {"device": "cpu"}}


def odd(path: Path, what: str) -> None:
    """Puts something where it does not belong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "a link that leads nowhere":
        path.symlink_to("nowhere")
    elif what == "a folder":
        path.mkdir()
        (path / "somebody's").write_text("work")
    elif what == "a file":
        path.write_text("somebody's work")
    elif what == "a link":
        target = path.with_name("somebody's")
        target.write_text("work")
        path.symlink_to(target)
    else:
        os.mkfifo(path)


ID = id_of(IDENTITY)
