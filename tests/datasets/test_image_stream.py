"""Images that do not fit into memory."""

import multiprocessing
import threading
from pathlib import Path

import pytest
import torch
from image_files import draw, load_folder, refusal_of
from pixels import pixels_of

from kd_cli.datasets import image_folder as folder_module

CPU = torch.device("cpu")


@pytest.fixture
def streamed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for k in range(7):
        draw(tree / f"train/cat/more-{k}.png", 50 + k)
    monkeypatch.setattr(folder_module, "KEPT", 0)
    return tree


@pytest.mark.parametrize("workers", [0, 1, 2, 50])
def test_what_is_decoded_anew_is_what_is_kept_in_memory(streamed, workers, monkeypatch):
    anew = load_folder(streamed, workers=workers)
    monkeypatch.setattr(folder_module, "KEPT", 1 << 30)
    kept = load_folder(streamed, workers=workers)
    assert (anew.train.samples.pixels, kept.train.samples.pixels is None) == (None, False)
    batches = [torch.tensor([7, 0, 3]), torch.tensor([1]), torch.tensor([2, 2, 9, 4]), torch.arange(10)]
    for _ in range(2):  # two epochs
        pairs = zip(anew.train.samples.stream(batches, CPU), kept.train.samples.stream(batches, CPU), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert (anew.fingerprint, anew.train.samples.digest) == (kept.fingerprint, kept.train.samples.digest)
    assert torch.equal(anew.train.samples.checksums(), kept.train.samples.checksums())
    some = torch.tensor([5, 1])
    chosen = [split.select(some) for split in (anew.train, kept.train)]
    assert torch.equal(*map(pixels_of, chosen))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("harm", "now"),
    [
        (Path.unlink, "cannot be read (No such file or directory)"),
        (lambda path: path.write_bytes(b"x"), "changed"),
        (lambda path: draw(path, 1), "changed"),
    ],
    ids=["vanished", "damaged", "another"],
)
def test_an_image_that_changes_amid_training_is_named(streamed, workers, harm, now):
    images = load_folder(streamed, workers=workers).train.samples
    harm(streamed / "train/cat/b.png")
    stream = images.stream([torch.tensor([0]), torch.tensor([1]), torch.tensor([2])], CPU)
    next(stream)
    assert refusal_of(lambda: list(stream)) == (
        f"{streamed}/train/cat/b.png could be decoded when the data were loaded, and now: {now}. "
        "Put it back as it was: the same command then goes on."
    )


def test_a_stream_that_is_left_needs_no_process_and_leaves_no_thread_behind(streamed):
    before = threading.active_count()
    stream = load_folder(streamed, workers=2).train.samples.stream([torch.tensor([0])] * 50, CPU)
    next(stream)
    assert multiprocessing.active_children() == [], "processes would need shared memory, and a start in each epoch"
    stream.close()
    assert threading.active_count() == before
