"""Texts through the commands: a teacher from scratch, a student with a tokenizer of its own, evaluated and asked."""

import csv
import json
from pathlib import Path

import pytest
from running import Outcome, inside, kd
from text_files import sentences, subjects

WORDS = (
    "dataset=text",
    "dataset.root=subjects",
    "teacher=transformer",
    "teacher.model={width:32,layers:1,heads:2,vocabulary:80}",
    "teacher.train={epochs:8,batch_size:16,optimizer:{lr:0.005}}",
    "student.model={width:16,vocabulary:60}",
    "student.train={epochs:25,batch_size:16,optimizer:{lr:0.03}}",
)
VIEWS = ("transfer.augment=word_mask", "transfer.augment.mask=0.2", "transfer.views=2", "transfer.labels=0.2")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("texts")
    subjects(folder / "subjects")
    return folder, inside("distill", *WORDS, *VIEWS, "student=bow", cwd=folder)


def test_teacher_and_student_learn_by_tokenizers_of_their_own(distilled: tuple[Path, Outcome]) -> None:
    folder, done = distilled
    result = done.result
    assert result["teacher"]["errors"] <= 6
    assert result["student"]["errors"] <= 6
    assert result["student"]["params"] == 60 * 16 + 17 * 3
    assert result["student"]["flops"] == 2 * 16 * 3
    assert "text: 180 training, 60 test texts of 3 classes" in done.err
    again = inside("distill", *WORDS, *VIEWS, "student=bow", cwd=folder)
    assert all(stage["cached"] for stage in again.result["stages"].values())
    assert again.result["student"]["errors"] == result["student"]["errors"]


@pytest.mark.parametrize("student", ["bilstm", "textcnn"])
def test_other_students_are_taught_by_the_same_targets(student: str, distilled: tuple[Path, Outcome]) -> None:
    folder, _ = distilled
    done = inside(
        "distill", *WORDS, *VIEWS, f"student={student}", "student.train.epochs=8", "baseline=false", cwd=folder
    )
    assert done.result["student"]["errors"] <= 10
    assert done.result["stages"]["soft_targets"]["cached"]


def test_a_stored_student_is_evaluated_and_asked_anywhere(distilled: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder, done = distilled
    run = folder / done.run
    judged = inside("evaluate", f"path={run}", "format=json", cwd=tmp_path)
    assert json.loads(judged.out)["errors"] == done.result["student"]["errors"]
    rows = sentences(30, 9)
    (tmp_path / "q.txt").write_text("\n".join(said for said, _ in rows))
    asked = kd("predict", f"path={run}", "texts=q.txt", cwd=tmp_path)
    assert (asked.status, asked.err) == (0, "")
    answers = list(csv.DictReader(asked.out.splitlines()))
    assert [row["text"] for row in answers] == [said for said, _ in rows]
    assert sum(row["class"] == name for row, (_, name) in zip(answers, rows, strict=True)) >= 25
    (tmp_path / "q.csv").write_text("number,text\n" + "".join(f"1,{said}\n" for said, _ in rows))
    table = inside("predict", f"path={run}", "texts=q.csv", "format=json", cwd=tmp_path)
    assert [row["class"] for row in json.loads(table.out)] == [row["class"] for row in answers]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("texts=q.txt",), "q.txt holds 1 empty text(s), at 2"),
        (("texts=none.csv",), "texts must be a file with a text in each line, or a table"),
        (("texts=other.csv",), "texts must be the name of a column, got 'text', where other.csv has said"),
        (("images=q.txt",), "path must be a model for images"),
        ((), "images, sounds or texts must be given, one of them"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    words: tuple[str, ...], said: str, distilled: tuple[Path, Outcome], tmp_path: Path
) -> None:
    folder, done = distilled
    (tmp_path / "q.txt").write_text("one\n\ntwo\n")
    (tmp_path / "other.csv").write_text("said\nwell\n")
    refused = inside("predict", f"path={folder / done.run}", *words, cwd=tmp_path)
    assert (refused.status, refused.out) == (1, "")
    assert said in refused.err


def test_networks_and_augmentations_for_images_are_refused(tmp_path: Path) -> None:
    subjects(tmp_path / "subjects")
    for words, said in (
        (("student=cnn_small",), "student.model must be a network"),
        (("teacher=cnn", "student=bow"), "teacher.model must be a network"),
        (("student=bow", "transfer.augment=jitter"), "transfer.augment must be one for text inputs"),
    ):
        refused = inside("distill", *WORDS[:3], *words, cwd=tmp_path)
        assert refused.status == 1
        assert said in refused.err, refused.err
    refused = inside("distill", "student=bow", cwd=tmp_path)
    assert "one for texts" in refused.err
