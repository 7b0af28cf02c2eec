"""Ensembles that cannot be: one message, and nothing left behind."""

from pathlib import Path

import pytest
from ensembles import WORDS
from running import Outcome, files_below, inside

from kd_cli.cli.choices import choices

LISTED = "Others are listed: 'teacher.members=[outputs/teachers/<id>,outputs/teachers/<id>]'."
WRITTEN = "A list of teachers is written 'teacher.members=[mlp_1200,cnn,outputs/teachers/<id>]'."
E = "teacher=ensemble "


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (E + "teacher.size=0", "teacher.size must be a whole number ≥ 1, got 0."),
        (E + "teacher.size=2.5", "teacher.size must be a whole number ≥ 1, got 2.5."),
        (E + "teacher.combine=mean", "teacher.combine must be one of arithmetic, geometric, got 'mean'."),
        *(
            (
                f"{E}teacher.size=2 teacher.weights={typed}",
                f"teacher.weights must be null or a list of 2 numbers ≥ 0, not all of them 0, got {got}.",
            )
            for typed, got in (
                ("[1,2,3]", "[1, 2, 3]"),
                ("[]", "[]"),
                ("[1,-1]", "[1, -1]"),
                ("[0,0.0]", "[0, 0.0]"),
                ("[1,much]", "[1, 'much']"),
                ("[1,nan]", "[1, nan]"),
                ("2", "2"),
            )
        ),
        (E + "teacher.members=[]", f"teacher.members must be a mapping, got '[]'. {WRITTEN}"),
        (
            E + "teacher.members=cnn",
            "teacher.members must be a mapping of names to teachers, got 'cnn'. "
            "Write 'teacher.members=[mlp_1200,cnn]', or /teacher@members.<name>: <choice> in the defaults of a YAML.",
        ),
        (
            E + "+teacher.members.wide=mlp_120",
            f"teacher.members.wide must be one of {', '.join(choices('teacher'))}, got 'mlp_120'. "
            "Did you mean 'mlp_1200'?",
        ),
        (E + "teacher.members=[cnn_digits,artifact]", "teacher.members.1.path must be given: teacher.members.1.path=…"),
        (
            E + "teacher.members=[cnn_digits,outputs/teachers/0]",
            "teacher.members.1.path must be a run folder or a folder of teachers/ or students/, "
            "got 'outputs/teachers/0'.",
        ),
        (
            E + "teacher.members=[cnn_digits,wrn_40_2] normalisation.mean=[0.5071,0.4867,0.4408]",
            "teacher.members.1.model.mean must be one number, or one for each of 1 channel(s), "
            "got [0.5071, 0.4867, 0.4408].",
        ),
        (E + "teacher.members=[ensemble]", "teacher.members.0 must be one network, got 'Ensemble'."),
        (
            E + "teacher.member=ensemble",
            f"teacher.member must be a teacher that kd trains, from a seed, got 'Ensemble'. {LISTED}",
        ),
        (
            E + "teacher.member=artifact teacher.member.path=x",
            f"teacher.member must be a teacher that kd trains, from a seed, got 'Stored'. {LISTED}",
        ),
        (
            "teacher.member=cnn",
            "teacher.member must be a key of kd distill, got 'teacher.member=cnn'. Choose it with teacher=ensemble.",
        ),
        (
            E + "teacher.member.model=cnnn",
            f"teacher.member.model must be one of {', '.join(choices('model'))}, got 'cnnn'. Did you mean 'cnn'?",
        ),
        (
            E + "teacher.member.train.optimizer=adaw",
            f"teacher.member.train.optimizer must be one of {', '.join(choices('optimizer'))}, got 'adaw'. "
            "Did you mean 'adamw'?",
        ),
        (E + "teacher.member.train.epochs=0", "teacher.member.train.epochs must be a whole number ≥ 1, got 0."),
        (E + "teacher.member.model.dropout=1", "teacher.member.model.dropout must be ≥ 0 and < 1, got 1."),
        (
            E + "teacher.members=[cnn_digits] teacher.members.0.seed=-1",
            "teacher.members.0.seed must be a whole number ≥ 0, got -1. "
            "On a shell, quote a reference: 'teacher.members.0.seed=${seed}'.",
        ),
    ],
)
def test_one_message_and_nothing_left_behind(words: str, message: str, tmp_path: Path) -> None:
    done = inside("distill", *words.split(" "), cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", message + "\n")
    assert files_below(tmp_path) == []


def test_a_stored_member_for_other_classes_is_refused_by_its_key(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    stored = first[0] / "outputs" / first[1].result["student"]["artifact"]
    from PIL import Image

    for k, name in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("L", (8, 8), k).save(tmp_path / "pets" / name / "one.png")
    words = ("dataset=image_folder", "dataset.root=pets", "teacher=ensemble", f"teacher.members=[{stored}]",
             "student=mlp_64")  # fmt: skip
    done = inside("distill", *words, cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("teacher.members.0.path must be a model with the classes of dataset=image_folder, got ")


def test_the_arithmetic_mean_in_a_population_is_refused(tmp_path: Path) -> None:
    words = ("hydra/launcher=population", "temperature=1,2", "student.model.dropout=0")
    done = inside("sweep", *WORDS, *words, cwd=tmp_path)
    assert done.status == 1
    assert "teacher.combine must be geometric in a population, got 'arithmetic'. Leave out" in done.err
