"""Files as magika sees them, and a student of its classifier, without a label."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from running import inside

from kd_cli.datasets import magika
from kd_cli.errors import DataError

package = pytest.importorskip("magika", reason="the classifier is a package of its own: pip install magika")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of four types, and what is left out."""
    root = tmp_path_factory.mktemp("files")
    for k in range(30):
        lines = "\n".join(f"    return {k} + {n} * x" for n in range(k % 7 + 2))
        (root / f"{k}.py").write_text(f"import os\n\n\ndef f{k}(x):\n{lines}\n")
        (root / f"{k}.json").write_text(json.dumps({"name": f"thing {k}", "values": list(range(k, k + 9))}))
        (root / f"{k}.csv").write_text("a,b,c\n" + "".join(f"{n},{n * k},{n + k}\n" for n in range(20)))
        np.save(root / f"{k}.npy", np.arange(k + 5))
    (root / "small.txt").write_text("short")
    (root / "again.py").write_bytes((root / "3.py").read_bytes())
    return root


def test_a_file_is_shown_as_the_package_shows_it(folder: Path, tmp_path: Path) -> None:
    about = magika._about()
    sizes = [about[key] for key in ("beg_size", "mid_size", "end_size", "padding_token", "block_size")]
    white, long = tmp_path / "white.txt", tmp_path / "long.bin"
    white.write_bytes(b"\n\t  words in the middle of white space  \n\n")
    long.write_bytes(b"  " + bytes(np.random.default_rng(0).integers(0, 256, 9000, dtype=np.uint8)) + b"\n \n")
    for path in (white, long, *sorted(folder.iterdir())):
        ours = magika.window_of(path, about)
        if path.stat().st_size < magika.SMALLEST:
            assert ours is None
            continue
        content = package.types.Seekable(io.BytesIO(path.read_bytes()))
        theirs = package.Magika._extract_features_from_seekable(content, *sizes, use_inputs_at_offsets=False)
        assert ours is not None
        assert ours.tolist() == [*theirs.beg, *theirs.end], path


def test_what_is_seen_is_split_by_its_digest_and_has_no_labels(folder: Path, tmp_path: Path) -> None:
    data = magika.magika(str(folder))
    assert len(data.train) + len(data.test) == 120  # the one that is there twice is one, the small one none
    assert data.train.labelled == data.test.labelled == 0
    assert len(data.classes) == 214
    for path in folder.iterdir():
        (tmp_path / f"other {path.name}").write_bytes(path.read_bytes())
    moved = magika.magika(str(tmp_path))
    assert moved.test.samples.digest == data.test.samples.digest
    few = magika.magika(str(folder), per_suffix=5)
    assert len(few.train) + len(few.test) == 20
    held_out = {row.tobytes() for row in data.test.samples.values.numpy()}  # type: ignore[attr-defined]
    assert all(row.tobytes() in held_out for row in few.test.samples.values.numpy())  # type: ignore[attr-defined]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="must be a folder with files of at least 8 bytes"):
        magika.magika(str(tmp_path / "empty"))


def test_a_black_box_is_replicated_without_a_label(folder: Path, tmp_path: Path) -> None:
    words = ("experiment=magika", f"dataset.root={folder}", "student.train.epochs=2", "dataset.test=0.4")
    words += ("evaluate.latency=false",)
    done = inside("distill", *words, cwd=tmp_path)
    result = done.result
    teacher, student = result["teacher"], result["student"]
    assert "gives probabilities (found out by" in done.err
    assert (teacher["errors"], teacher["flops"]) == (0, None)
    assert student["errors"] == student["n"] - round(student["agreement"] * student["n"])
    assert 10 * student["params"] <= teacher["params"]
    kinds = {name for name, count in teacher["per_class"].items() if count["n"]}
    assert {"python", "json", "npy"} <= kinds
    assert result["note"].startswith("The test samples have no labels")
    assert result["environment"]["device"] == str(torch.device("cpu"))
    refused = inside("distill", *words, "baseline=true", cwd=tmp_path)
    assert refused.status == 1
    assert "baseline must be false for dataset=magika, which has no labels, got True." in refused.err
