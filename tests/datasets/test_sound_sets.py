"""Folders of sounds and the spoken digits as data sets: splits by file and by speaker, frames, what is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import sound_files
import torch

from kd_cli.data.heard import Frames, Recordings
from kd_cli.data.samples import Split
from kd_cli.datasets.audio_folder import audio_folder
from kd_cli.datasets.spoken_digits import spoken_digits
from kd_cli.errors import ConfigError, DataError, KdError

GROUP = "_([a-z]+)_"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_files.folders(tmp_path_factory.mktemp("sounds") / "data")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_files.digits(tmp_path_factory.mktemp("digits"))


def speakers(split: Split | None) -> set[str]:
    assert split is not None
    assert isinstance(split.samples, Recordings)
    return {name.split("_")[1] for name in split.samples.names}


def test_a_speaker_is_in_one_split(folder: Path) -> None:
    data = audio_folder(str(folder), rate=8000, seconds=0.3, group=GROUP, test=0.25, validation=0.25)
    parts = [speakers(part) for part in (data.train, data.validation, data.test)]
    assert sorted(map(len, parts)) == [1, 1, 2]
    assert set.union(*parts) == set(sound_files.SPEAKERS)
    by_file = audio_folder(str(folder), rate=8000, seconds=0.3)
    assert (len(by_file.train), len(by_file.test)) == (38, 10)
    assert by_file.classes == ("high", "low", "mid")
    assert str(by_file.spec) == "features inputs [40, 28] (40 log-mel bands at 8000 Hz, 25 ms every 10 ms)"


def test_every_format_and_a_pattern_of_names(tmp_path: Path) -> None:
    for ending in ("wav", "flac", "ogg", "mp3"):
        for label, hertz in sound_files.TONES.items():
            for k in range(3):
                sound_files.write(tmp_path / f"{label}-{k}.{ending}", sound_files.tone(hertz, seconds=0.4, seed=k))
    data = audio_folder(str(tmp_path), rate=8000, seconds=0.4, pattern="([a-z]+)-", test=12)
    assert (data.classes, len(data.train), len(data.test)) == (("high", "low", "mid"), 24, 12)
    loudest = data.train.samples.stream([torch.arange(24)], torch.device("cpu"))
    assert next(loudest).shape == (24, 40, 38)  # type: ignore[union-attr]
    with pytest.raises(DataError, match="must be a pattern that is found in every file"):
        audio_folder(str(tmp_path), pattern="(.+)=")


def test_the_official_split_and_the_split_by_speaker(recordings: Path) -> None:
    official = spoken_digits(str(recordings), seconds=0.2)
    assert (len(official.train), len(official.test), official.validation) == (80, 40, None)
    assert speakers(official.test) == set(sound_files.SPEAKERS)
    left_out = spoken_digits(str(recordings), test="bob", validation="next", seconds=0.2)
    assert (speakers(left_out.test), speakers(left_out.validation)) == ({"bob"}, {"cy"})
    assert speakers(left_out.train) == {"ann", "di"}
    assert spoken_digits(str(recordings), test=1, validation="next", seconds=0.2).fingerprint == left_out.fingerprint
    two = spoken_digits(str(recordings / "recordings"), test=["ann", "di"], validation=0.25, seconds=0.2)
    assert (len(two.test), len(two.train), len(two.validation or ())) == (60, 45, 15)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"test": "bobby"}, "or speakers: ann, bob, cy, di, got 'bobby'. Did you mean 'bob'"),
        ({"test": "bob", "validation": "bob"}, "must be other speakers than dataset.test, got 'bob'"),
        ({"validation": "next"}, "dataset.validation must be another where dataset.test names no single speaker"),
        ({"test": ["ann", "bob", "cy", "di"]}, "not all of them"),
        ({"mask": True, "context": 2}, "dataset.mask must be false where dataset.context is a number"),
        ({"alignments": "a.jsonl"}, "dataset.alignments must be null for whole sounds, got 'a.jsonl'. Frames have"),
        ({"alignments": "a.jsonl", "context": 2}, "a.jsonl cannot be read: No such file"),
    ],
)  # fmt: skip
def test_what_no_digits_can_be_made_of_is_refused(keys: dict[str, object], message: str, recordings: Path) -> None:
    with pytest.raises(KdError) as refused:
        spoken_digits(str(recordings), **keys)  # type: ignore[arg-type]
    assert message in str(refused.value)


def test_files_with_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be a folder with files <digit>_<speaker>_<index>"):
        spoken_digits(str(tmp_path))
    sound_files.write(tmp_path / "seven_ann_1.wav", sound_files.tone(300))
    with pytest.raises(DataError, match="got seven_ann_1"):
        spoken_digits(str(tmp_path))


def test_sounds_that_cannot_be_used_are_all_named(tmp_path: Path) -> None:
    root = sound_files.folders(tmp_path / "data", each=1)
    sound_files.write(root / "low" / "quiet.wav", np.zeros(2000, np.float32))
    (root / "mid" / "words.flac").write_text("these are words")
    with pytest.raises(DataError) as refused:
        audio_folder(str(root), rate=8000)
    said = str(refused.value)
    assert said.startswith("2 sound(s) cannot be used; mend or remove them:")
    assert f"{root / 'low' / 'quiet.wav'}: silent" in said
    assert f"{root / 'mid' / 'words.flac'}: no sound of a kind that is read" in said


def test_frames_are_cut_out_of_their_own_sound(folder: Path) -> None:
    whole = audio_folder(str(folder), rate=8000, seconds=0.4)
    data = audio_folder(str(folder), rate=8000, context=3)
    votes, samples = data.test.votes, data.test.samples
    assert votes is not None
    assert isinstance(samples, Frames)
    assert samples.spec.shape == (40, 7)
    assert len(votes.whole.unique()) == len(whole.test) == 10
    assert torch.equal(votes.answer, data.test.labels)
    assert torch.equal(votes.shares, torch.eye(3))
    (cut,) = samples.stream([torch.arange(len(samples))], torch.device("cpu"))
    assert isinstance(cut, torch.Tensor)
    for sound in votes.whole.unique():
        chosen = (votes.whole == sound).nonzero()[:, 0]
        spectrum = cut[chosen, :, 3].T  # the middle of each frame, one after the other
        padded = torch.cat([spectrum[:, :1].expand(-1, 3), spectrum, spectrum[:, -1:].expand(-1, 3)], 1)
        assert torch.equal(cut[chosen], padded.unfold(1, 7, 1).transpose(0, 1))
    part = samples.select(torch.tensor([5, 2]))
    assert torch.equal(next(part.stream([torch.tensor([0, 1])], torch.device("cpu"))), cut[[5, 2]])
    assert torch.equal(part.checksums(), samples.checksums()[[5, 2]])
    assert part.digest != samples.digest
    assert len(set(samples.checksums().tolist())) == len(samples)


def test_frames_are_what_their_alignment_says(recordings: Path, tmp_path: Path) -> None:
    lines = []
    for digit in range(10):
        for speaker in sound_files.SPEAKERS:
            for index in (0, 7, 8):
                name = f"{digit}_{speaker}_{index}.wav"
                states = [["sil", 0.0, 0.05], [f"p{digit // 2}", 0.05, 0.15]]  # what follows is in no state
                lines += [] if name == "0_ann_0.wav" else [json.dumps({"file": name, "states": states})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    data = spoken_digits(str(recordings), context=1, alignments=str(tmp_path / "a.jsonl"))
    assert data.classes == ("p0", "p1", "p2", "p3", "p4", "sil")
    votes = data.test.votes
    assert votes is not None
    assert len(votes.whole.unique()) == 39
    assert len(data.test) == 39 * 14  # the frames whose middle, 12.5 ms after their begin, is before 150 ms
    assert votes.shares[0].tolist() == pytest.approx([0.5, 0.5, *[0.0] * 8], abs=0.01)
    assert votes.shares[5].tolist() == pytest.approx([0.1] * 10, abs=0.01)
    (tmp_path / "bad.jsonl").write_text(lines[0] + '\n{"file": "x.wav"}\n')
    with pytest.raises(DataError, match=r"bad.jsonl, line 2, is no alignment"):
        spoken_digits(str(recordings), context=1, alignments=str(tmp_path / "bad.jsonl"))


def test_what_was_computed_is_kept_and_found_and_made_anew_where_it_is_damaged(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "outputs" / "sounds"
    keys = {"rate": 8000, "seconds": 0.3, "cache": str(cache)}
    first = audio_folder(str(folder), **keys)  # type: ignore[arg-type]
    assert not cache.exists()  # an answer leaves no folder behind
    cache.parent.mkdir()
    audio_folder(str(folder), **keys)  # type: ignore[arg-type]
    (kept,) = cache.iterdir()
    before = kept.stat().st_mtime_ns
    again = audio_folder(str(folder), **keys)  # type: ignore[arg-type]
    assert kept.stat().st_mtime_ns == before
    assert values(again.train).equal(values(first.train))
    content = bytearray(kept.read_bytes())
    content[-9] ^= 255
    kept.write_bytes(content)
    mended = audio_folder(str(folder), **keys)  # type: ignore[arg-type]
    assert values(mended.train).equal(values(first.train))
    assert kept.read_bytes() != bytes(content)
    audio_folder(str(folder), **{**keys, "bands": 20})  # type: ignore[arg-type]
    assert len(list(cache.iterdir())) == 2
    for context in (1, 2):  # are cut out of the same spectra
        audio_folder(str(folder), rate=8000, context=context, cache=str(cache))
    assert len(list(cache.iterdir())) == 3


def values(split: Split) -> torch.Tensor:
    (found,) = split.samples.stream([torch.arange(len(split))], torch.device("cpu"))
    assert isinstance(found, torch.Tensor)
    return found


def test_without_its_library_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ConfigError, match=r"pip install 'kd-distill\[audio\]'"):
        audio_folder(str(folder))
