"""Folders from a stranger, whose digests agree, and a watch on what is done while one is read."""

import hashlib
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import seal

from kd_cli.errors import ArtifactError

WATCHED = {
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "socket.getaddrinfo",
    "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.putenv", "shutil.rmtree", "pickle.find_class",
    "webbrowser.open", "ctypes.dlopen",
}  # fmt: skip
happened: list[str] | None = None  # while a stranger's folder is read


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if happened is not None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if event in WATCHED or writes:
            happened.append(f"{event} {arguments}")


sys.addaudithook(watch)


def refused(read: Callable[[], Any]) -> str:
    """The one message that reading ends in."""
    global happened
    happened = []
    try:
        with pytest.raises(ArtifactError) as refusal:
            read()
        assert happened == []
    finally:
        happened = None
    assert len(str(refusal.value)) < 2000
    return str(refusal.value)


def put(folder: Path, name: str, content: bytes) -> None:
    """Replaces a file and makes the manifest agree."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    seal(folder, manifest)


def configure(folder: Path, **changes: Any) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    put(folder, "config.yaml", json.dumps({**config, **changes}).encode())


TORCHVISION = {"_target_": "kd_cli.models.pretrained.torchvision", "_partial_": True}


HUGE = 10**9


def file_of(header: Any, body: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def headers(name: str) -> dict[str, bytes]:
    """Safetensors files of a tensor `name` that are none."""
    return {
        "empty": b"",
        "a length alone": struct.pack("<Q", 100),
        "a length of all bytes": file_of({}, size=2**64 - 1),
        "a length of a gigabyte": file_of({}, b" " * 100, size=1 << 30),
        "no JSON": file_of(b"{" * 50),
        "depth": file_of(b'{"a":' * 100_000),
        "a list": file_of([]),
        "no entry": file_of({name: 3}),
        "many elements": file_of({name: entry(shape=[10**12], offsets=[0, 4 * 10**12])}),
        "more than can be counted": file_of({name: entry(shape=[2**40, 2**40], offsets=[0, 8])}, b"x" * 8),
        "past the end": file_of({name: entry(offsets=[0, 8])}, b"x" * 4),
        "before the start": file_of({name: entry(offsets=[-8, 0])}, b"x" * 8),
        "backwards": file_of({name: entry(offsets=[8, 0])}, b"x" * 8),
        "overlapping": file_of({name: entry(), "b": entry(offsets=[4, 12])}, b"x" * 12),
        "a hole": file_of({name: entry(), "b": entry(offsets=[12, 20])}, b"x" * 20),
        "a shape that is not the size": file_of({name: entry(shape=[3])}, b"x" * 8),
        "a negative shape": file_of({name: entry(shape=[-2])}, b"x" * 8),
        "a shape of NaN": file_of(json.dumps({name: entry(shape=[float("nan")])}).encode(), b"x" * 8),
        "a shape of halves": file_of({name: entry(shape=[0.5])}, b"x" * 8),
        "no shape": file_of({name: entry(shape=None)}, b"x" * 8),
        "an unknown type": file_of({name: entry(dtype="PICKLE")}, b"x" * 8),
        "bytes behind": file_of({name: entry()}, b"x" * 9),
    }


def forget(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["files"][name]
        seal(folder, manifest)

    return change
