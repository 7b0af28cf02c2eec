"""Artifacts that agree with themselves and cannot serve."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from left import artifacts, digest
from running import TINY, Outcome, inside, seal
from safetensors.torch import load_file, save, save_file

from kd_cli.store.artifacts import REBUILD


def rewrite(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Changes a stored file and makes its manifest agree: a mismatch that no digest shows."""
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": digest(folder / name)}
    seal(folder, manifest)


def swap(key: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[key] = tensors[key].roll(1, 0).contiguous()

    return change


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("samples.safetensors", "index", "holds the logits of other samples than the transfer set."),
        ("samples.safetensors", "crc32", "holds the logits of other samples than the transfer set."),
        ("logits-00000.safetensors", "logits", "is not what this teacher says of the transfer set."),
    ],
)
def test_targets_that_belong_to_other_samples_stop_the_run(
    name: str, key: str, said: str, first: tuple[Path, Outcome], tmp_path: Path
) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    folder = tmp_path / "outputs" / artifacts(first[1].result)["soft_targets"]
    rewrite(folder, name, swap(key))
    done = inside("distill", *TINY, "seed=1", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1] == f"{folder} {said} {REBUILD}"
    assert inside("distill", *TINY, "seed=1", "rebuild=true", cwd=tmp_path).status == 0


def put(folder: Path, name: str, content: bytes) -> None:
    """Replaces a file, and makes the manifest agree."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": digest(folder / name)}
    seal(folder, manifest)


def drop(folder: Path, key: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (manifest["files"] if key.endswith("jsonl") else manifest).pop(key)
    seal(folder, manifest)


def spoil(folder: Path, value: float) -> None:
    state = load_file(folder / "model.safetensors")
    next(iter(reversed(state.values()))).view(-1)[0] = value
    save_file(state, folder / "model.safetensors")
    put(folder, "model.safetensors", (folder / "model.safetensors").read_bytes())


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no environment": (lambda folder: drop(folder, "environment"), "does not say how it was computed."),
    "NaN": (lambda folder: spoil(folder, float("nan")), "holds what are no numbers."),
    "infinity": (lambda folder: spoil(folder, float("inf")), "holds what are no numbers."),
    "other weights": (
        lambda folder: put(folder, "model.safetensors", save({"a": torch.zeros(2)})),
        "0.mean is missing.",
    ),
    "no safetensors": (lambda folder: put(folder, "model.safetensors", b"{}"), "is no safetensors file"),
    "no history": (lambda folder: drop(folder, "history.jsonl"), "names no history.jsonl"),
    **{
        f"a history of {text[:20]!r}": (
            lambda folder, text=text: put(folder, "history.jsonl", text),  # type: ignore[misc]
            "history.jsonl is no history (",
        )
        for text in (b"", b"{", b"[]", b"1\n2\n", b"{}\n", b'{"epoch": 7}\n', b'{"epoch": 1, "loss": []}\n', b"\xff")
    },
}


@pytest.mark.parametrize("kind", ["teacher", "student"])
@pytest.mark.parametrize("name", SPOILT)
def test_an_artifact_that_agrees_with_itself_and_cannot_serve_is_refused_and_can_be_made_anew(
    name: str, kind: str, first: tuple[Path, Outcome], tmp_path: Path
) -> None:
    spoil, said = SPOILT[name]
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    folder = tmp_path / "outputs" / first[1].result[kind]["artifact"]
    spoil(folder)
    done = inside("distill", *TINY, cwd=tmp_path)
    assert (done.status, done.out, "Traceback" in done.err) == (1, "", False)
    last = done.err.splitlines()[-1]
    assert last.startswith(str(folder))
    assert said in last
    assert last.endswith(REBUILD)
    healed = inside("distill", *TINY, "rebuild=true", cwd=tmp_path).result
    assert artifacts(healed) == artifacts(first[1].result)
