"""Nothing takes the memory or the time that a stranger claims."""

import json
import os
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from folders import HUGE, refused
from running import TINY, Outcome, inside, seal

import kd_cli
from kd_cli.errors import ArtifactError
from kd_cli.store.artifacts import REBUILD
from kd_cli.store.foreign_file import read_weights


def zipped(path: Path, pickle: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as parts:
        for name, content in (("data.pkl", pickle), ("version", b"3\n"), ("byteorder", b"little")):
            parts.writestr(f"archive/{name}", content)


GIGABYTES = struct.pack("<i", 2 * HUGE)
BOMBS: dict[str, Callable[[Path], object]] = {
    "bytes by their number": lambda path: zipped(path, b"\x80\x02c__builtin__\nbytearray\n(J" + GIGABYTES + b"tR."),
    "the same, not zipped": lambda path: path.write_bytes(b"\x80\x02c__builtin__\nbytearray\n(J" + GIGABYTES + b"tR."),
    "zeros that are packed": lambda path: zipped(path, b"\0" * (1 << 24), zipfile.ZIP_DEFLATED),
    "a terabyte of nothing": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    "a sparse tensor": lambda path: torch.save({"8.weight": torch.eye(3).to_sparse()}, path),
    "a tensor without memory": lambda path: torch.save({"8.weight": torch.zeros(9, device="meta")}, path),
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_checkpoint_takes_no_more_memory_than_it_has_bytes(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb.{suffix}"
    BOMBS[name](path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "path must be a" in refused(lambda: read_weights(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # kilobytes


@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()],
    ids=["a pipe", "a link to a device", "a folder"],
)
def test_what_is_no_file_is_not_read_as_a_checkpoint(make: Callable[[Path], None], suffix: str, tmp_path: Path) -> None:
    make(tmp_path / f"x.{suffix}")
    with pytest.raises(ArtifactError, match="no file"):
        read_weights(tmp_path / f"x.{suffix}")


# Sizes.


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "history.jsonl"])
def test_nobody_waits_for_the_digest_of_a_terabyte_of_nothing(name: str, student: Path) -> None:
    os.truncate(student / name, 1 << 40)
    manifest = json.loads((student / "manifest.json").read_text())
    manifest["files"][name]["bytes"] = 1 << 40
    seal(student, manifest)
    refused(lambda: kd_cli.load(student))


@pytest.mark.parametrize("kind", ["teacher", "student", "soft_targets"])
def test_nor_does_a_run_that_finds_it(kind: str, made: Outcome, outputs: Path, tmp_path: Path) -> None:
    folder = outputs / made.result["stages"][kind]["artifact"]
    name = "logits-00000.safetensors" if kind == "soft_targets" else "model.safetensors"
    os.truncate(folder / name, 1 << 40)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name]["bytes"] = 1 << 40
    seal(folder, manifest)
    done = inside("distill", *TINY, "targets.top_k=3", "baseline=false", cwd=tmp_path)
    assert (done.status, "Traceback" in done.err) == (1, False)
    assert done.err.splitlines()[-1] == f"{folder} holds more than what is wanted of it can take. {REBUILD}"
