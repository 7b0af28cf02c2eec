"""Manifests of a stranger."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import forget, refused
from running import seal

import kd_cli


def name_in_manifest(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["config.yaml"]
    seal(folder, manifest)


def replace_by(make: Callable[[Path, Path], None], name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / "moved")
        make(folder / name, folder.parent / "moved")

    return change


FOLDERS: dict[str, Callable[[Path], None]] = {
    **{
        f"the name {name[:20]!r}": lambda folder, name=name: name_in_manifest(folder, name)  # type: ignore[misc]
        for name in ("../x", "..", ".", "", "/etc/passwd", "a/b", "a\0b", "x" * 300, "/", "\udcff", "../outputs/../x")
    },
    **{
        f"{what} in place of {name}": replace_by(make, name)
        for name in ("model.safetensors", "config.yaml", "manifest.json")
        for what, make in (
            ("a link", lambda path, moved: path.symlink_to(moved)),
            ("a link to a device", lambda path, moved: path.symlink_to("/dev/zero")),
            ("a link to itself", lambda path, moved: path.symlink_to(path.name)),
            ("a pipe", lambda path, moved: os.mkfifo(path)),
            ("a folder", lambda path, moved: path.mkdir()),
            ("a link to a folder", lambda path, moved: path.symlink_to(path.parent, target_is_directory=True)),
        )
    },
    "no weights": forget("model.safetensors"),
    "no config": forget("config.yaml"),
    "a large manifest": lambda folder: (folder / "manifest.json").write_bytes(b" " * (1 << 25)),
    "a deep manifest": lambda folder: (folder / "manifest.json").write_bytes(b'{"files":' * 100_000),
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", FOLDERS)
def test_a_manifest_leads_nowhere_else(name: str, student: Path) -> None:
    FOLDERS[name](student)
    refused(lambda: kd_cli.load(student))


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml"])
def test_a_pipe_that_no_manifest_names_is_not_opened(name: str, student: Path, watched: None) -> None:
    forget(name)(student)
    (student / name).unlink()
    os.mkfifo(student / name)
    refused(lambda: kd_cli.load(student))
