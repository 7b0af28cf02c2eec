"""Sounds through the installed commands: taught, distilled, judged, predicted."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import sound_files
from running import Outcome, inside, kd

DATA = ("dataset=audio_folder", "dataset.root=data", "dataset.rate=8000", "dataset.seconds=0.2", "dataset.bands=20")
SHORT = ("teacher.train.epochs=6", "student.train.epochs=4", "teacher.train.batch_size=8", "student.train.batch_size=8")
NETWORKS = ("teacher=cnn1d", "student=cnn1d_small", "teacher.model.channels=[32,32]", "student.model.channels=[8,8]")
CNN2D = ("teacher=cnn2d", "student=cnn2d_small", "teacher.model.channels=[8,8]", "student.model.channels=[4,4]")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    sound_files.folders(place / "data", each=3)
    return place


def rows(done: Outcome) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(done.out)))


def test_a_folder_of_sounds_is_distilled_judged_and_predicted(place: Path, tmp_path: Path) -> None:
    done = kd("distill", *DATA, *NETWORKS, *SHORT, cwd=place)
    result = done.result
    assert "data: 36 sounds in 3 classes (high 12, low 12, mid 12); 29 training, 7 test; 36 wav" in done.err, done.err
    assert result["teacher"]["accuracy"] > 0.8
    assert result["student"]["params"] < result["teacher"]["params"] / 5
    path = f"path=outputs/{result['teacher']['artifact']}"
    judged = inside("evaluate", path, "format=json", cwd=place)
    assert json.loads(judged.out)["errors"] == result["teacher"]["errors"]

    sound_files.write(tmp_path / "new" / "a.flac", sound_files.tone(300, seconds=0.3, seed=5))
    sound_files.write(tmp_path / "new" / "b.wav", sound_files.tone(2200, 44100, 0.25, seed=6), 44100)
    predicted = inside("predict", path, f"sounds={tmp_path / 'new'}", cwd=place)
    assert predicted.status == 0, predicted.err
    assert [row["class"] for row in rows(predicted)] == ["low", "high"]
    several = inside("predict", path, f"sounds=[{tmp_path / 'new' / 'b.wav'},{tmp_path}/new/*.flac]", cwd=place)
    assert [row["class"] for row in rows(several)] == ["high", "low"], several.err
    (tmp_path / "new" / "c.ogg").write_text("no sound")
    (tmp_path / "new" / "notes.txt").write_text("a text")
    sound_files.write(tmp_path / "new" / "d.wav", np.zeros(1000, np.float32))
    partly = inside("predict", path, f"sounds={tmp_path / 'new'}", cwd=place)
    assert partly.status == 1
    assert rows(partly) == rows(predicted)  # the good ones are answered
    assert "d.wav: silent" in partly.err
    assert "c.ogg: no sound of a kind that is read" in partly.err
    assert "notes.txt" in partly.err
    assert "Traceback" not in partly.err


@pytest.mark.parametrize(
    ("words", "accuracy"),
    [
        (("dataset.features=waveform", *NETWORKS, "augment@transfer.augment=shift_noise", "transfer.views=2"), 0.5),
        (("dataset.features=mfcc", "dataset.mask=true", *NETWORKS), 0.5),
        ((*CNN2D, "augment@transfer.augment=spec_augment"), 0.3),
    ],
)
def test_other_ways_to_hear_and_other_networks(words: tuple[str, ...], accuracy: float, place: Path) -> None:
    result = inside("distill", *DATA, *words, *SHORT, "baseline=false", cwd=place).result
    assert result["teacher"]["accuracy"] > accuracy
    path = f"path=outputs/{result['teacher']['artifact']}"
    one = inside("predict", path, "sounds=data/low/low_ann_0.wav", "format=json", cwd=place)
    assert one.status == 0, one.err
    (answer,) = json.loads(one.out)
    assert answer["class"] in sound_files.TONES


def test_frames_vote_on_their_sound(place: Path) -> None:
    words = ("dataset=audio_folder", "dataset.root=data", "dataset.rate=8000", "dataset.context=4")
    nets = ("teacher=ensemble", "teacher.size=2", "teacher@teacher.member=frames_128", "student=frames_128")
    short = ("teacher.member.train.epochs=6", "student.train.epochs=4", "baseline=false")
    done = inside("distill", *words, *nets, *short, cwd=place)
    result = done.result
    teacher = result["teacher"]
    assert "sounds wrong, by their frames' votes" in done.err
    assert teacher["sounds"] == 7
    assert teacher["n"] > 7 * 15
    assert 0 <= teacher["sound_errors"] <= 2
    assert [0 <= member["sound_errors"] <= 4 for member in teacher["members"]] == [True, True]
    path = f"path=outputs/{teacher['members'][0]['artifact']}"
    predicted = inside("predict", path, "sounds=data/high", cwd=place)
    assert predicted.status == 0, predicted.err
    assert sum(row["class"] == "high" for row in rows(predicted)) >= 8
    other = inside("evaluate", path, "dataset.bands=20", cwd=place)
    assert other.status == 1
    assert "20 log-mel bands" in other.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (*DATA, *NETWORKS, "dataset.pattern='([0-9]{4})'"),
            "dataset.pattern must be a pattern that is found in every",
        ),
        (
            (*DATA, *NETWORKS, "dataset.rate=0"),
            "dataset.rate must be a whole number of hertz from 100 to 768000, got 0.",
        ),
        (
            (*DATA, *NETWORKS, "dataset.labels=data/none.csv"),
            "dataset.labels",
        ),
        ((*DATA, "teacher=cnn_digits", "student=mlp_64"), "a network for inputs of shape [20, 18], got one for images"),
        (
            (*DATA, *NETWORKS, "augment@transfer.augment=shift_noise"),
            "transfer.augment must be one for features inputs, got shift_noise, which is for audio inputs.",
        ),
        (("dataset=digits", "teacher=cnn1d"), "got one for sounds: waveforms, or [channels, frames]"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(words: tuple[str, ...], message: str, place: Path) -> None:
    done = inside("distill", *words, "output_dir=refused", cwd=place)
    assert done.status == 1
    assert message in done.err, done.err
    assert "Traceback" not in done.err
    assert not (place / "refused" / "teachers").exists()


def test_a_stored_teacher_with_other_ears_is_refused(place: Path) -> None:
    small = ("teacher=cnn1d", "teacher.model.channels=[8,8]", "teacher.train.epochs=1")
    stored = inside("train-teacher", *DATA, *small, cwd=place).result
    words = ("teacher=artifact", f"teacher.path=outputs/{stored['teacher']['artifact']}", "student=cnn1d_small")
    refused = inside("distill", *DATA, *words, "dataset.step=0.0101", "dataset.window=0.0249", cwd=place)
    assert refused.status == 1
    assert "hearing" in refused.err
    assert inside("predict", f"path={stored['teacher']['artifact']}", cwd=place).status == 1
    images = inside("predict", f"path=outputs/{stored['teacher']['artifact']}", "images=data", cwd=place)
    assert "path must be a model for images" in images.err
