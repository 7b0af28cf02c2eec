"""What people type: it works, or is answered with the line that does. Every line that is printed is run here."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lines import split
from running import files_below, inside

from kd_cli.cli.choices import CONFIGS
from kd_cli.cli.typed import first

# What is typed, and the line that is given in answer.
LINES = [
    ("distill --epochs=10", "distill student.train.epochs=10"),
    ("distill --epochs 10", "distill student.train.epochs=10"),
    ("distill -e 10", "distill student.train.epochs=10"),
    ("train-teacher --epochs 10", "train-teacher teacher.train.epochs=10"),
    ("distill --lr 0.1", "distill student.train.optimizer.lr=0.1"),
    ("distill --dataset mnist", "distill dataset=mnist"),
    ("distill --dataset=mnist --student mlp_800", "distill dataset=mnist student=mlp_800"),
    ("distill --student.train.epochs=3", "distill student.train.epochs=3"),
    ("distill --batch-size 64", "distill student.train.batch_size=64"),
    ("distill --no-baseline", "distill baseline=false"),
    ("distill --compile", "distill compile=true"),
    ("distill --gpu", "distill device=cuda"),
    ("distill --cpu", "distill device=cpu"),
    ("distill --output-dir out", "distill output_dir=out"),
    ("distill -o out", "distill output_dir=out"),
    ("distill --epochs 5 --lr=0.1 seed=1 --no-baseline",
     "distill student.train.epochs=5 student.train.optimizer.lr=0.1 seed=1 baseline=false"),
    ("distill --cfg job --epochs=10", "distill student.train.epochs=10 --cfg job"),
    ("distill epochs=5", "distill student.train.epochs=5"),
    ("distill +epochs=5", "distill student.train.epochs=5"),
    ("distill epochs=5 lr=0.1", "distill student.train.epochs=5 student.train.optimizer.lr=0.1"),
    ("train-teacher epochs=5 lr=0.1", "train-teacher teacher.train.epochs=5 teacher.train.optimizer.lr=0.1"),
    ("distill lr=0.1", "distill student.train.optimizer.lr=0.1"),
    ("distill learning_rate=0.1", "distill student.train.optimizer.lr=0.1"),
    ("distill batch_size=64", "distill student.train.batch_size=64"),
    ("distill weight_decay=0.01", "distill student.train.optimizer.weight_decay=0.01"),
    ("distill momentum=0.5", "distill student.train.optimizer.momentum=0.5"),
    ("distill student.lr=0.1", "distill student.train.optimizer.lr=0.1"),
    ("distill student.train.lr=0.1", "distill student.train.optimizer.lr=0.1"),
    ("distill teacher.epochs=3", "distill teacher.train.epochs=3"),
    ("distill teacher.lr=0.1", "distill teacher.train.optimizer.lr=0.1"),
    ("distill student.widths=[32]", "distill 'student.model.widths=[32]'"),
    ("distill widths=32,16", "distill 'student.model.widths=[32,16]'"),
    ("distill student.seed=3", "distill seed=3"),
    ("distill T=4", "distill temperature=4"),
    ("distill alpha=0.5", "distill soft_weight=0.5"),
    ("distill validation=0.1", "distill dataset.validation=0.1"),
    ("distill optimizer=adam", "distill student.train.optimizer=adam"),
    ("distill optimizer=Adam", "distill student.train.optimizer=adam"),
    ("distill optimizer=sgd", "distill student.train.optimizer=sgd"),
    ("distill optimizer=rmsprop", "distill student.train.optimizer=rmsprop"),
    ("distill --optimizer adam", "distill student.train.optimizer=adam"),
    ("distill teacher.optimizer=adam", "distill teacher.train.optimizer=adam"),
    ("train-teacher optimizer=adam", "train-teacher teacher.train.optimizer=adam"),
    ("distill scheduler=cosine", "distill student.train.scheduler=cosine"),
    ("distill recipe=cifar", "distill student.train=cifar"),
    ("distill model=cnn", "distill student.model=cnn"),
    ("distill augment=jitter", "distill transfer.augment=jitter"),
    ("distill student.augment=jitter", "distill transfer.augment=jitter"),
    ("distill dataset=./folder", "distill dataset=image_folder dataset.root=./folder"),
    ("distill dataset=/abs/folder", "distill dataset=image_folder dataset.root=/abs/folder"),
    ("distill dataset=~/x", "distill dataset=image_folder 'dataset.root=~/x'"),
    ("distill dataset=a/b seed=3", "distill dataset=image_folder dataset.root=a/b seed=3"),
    ("distill dataset=..", "distill dataset=image_folder dataset.root=.."),
    ("distill 'dataset=./my images'", "distill dataset=image_folder 'dataset.root=./my images'"),
    ("distill transfer.dataset=./folder", "distill transfer.dataset=image_folder transfer.dataset.root=./folder"),
    ("distill dataset.root=./x", "distill dataset=image_folder dataset.root=./x"),
    ("distill transfer.dataset.size=28", "distill transfer.dataset=digits transfer.dataset.size=28"),
    ("distill teacher=outputs/runs/abc", "distill teacher=artifact teacher.path=outputs/runs/abc"),
    ("distill teacher=outputs/teachers/abc", "distill teacher=artifact teacher.path=outputs/teachers/abc"),
    ("distill teacher=/abs/teachers/abc", "distill teacher=artifact teacher.path=/abs/teachers/abc"),
    ("distill teacher=~/x/abc", "distill teacher=artifact 'teacher.path=~/x/abc'"),
    ("distill teacher.path=outputs/x", "distill teacher=artifact teacher.path=outputs/x"),
    ("distill teacher=specialists teacher.generalist=outputs/x",
     "distill teacher=specialists teacher.generalist=artifact teacher.generalist.path=outputs/x"),
    ("distill teacher.generalist=outputs/x",
     "distill teacher=specialists teacher.generalist=artifact teacher.generalist.path=outputs/x"),
    ("distill teacher=mlp_1200 teacher.size=3", "distill teacher=ensemble teacher.size=3"),
    ("evaluate outputs/runs/x", "evaluate path=outputs/runs/x"),
    ("evaluate path outputs/runs/x", "evaluate path=outputs/runs/x"),
    ("evaluate outputs/runs/x json", "evaluate path=outputs/runs/x format=json"),
    ("evaluate outputs/runs/x --split train", "evaluate path=outputs/runs/x split=train"),
    ("evaluate 'outputs/my runs/x'", "evaluate 'path=outputs/my runs/x'"),
    ("evaluate path=a,b", "evaluate path=a"),
    ("predict outputs/runs/x a.png", "predict path=outputs/runs/x images=a.png"),
    ("predict a.png path=outputs/runs/x", "predict images=a.png path=outputs/runs/x"),
    ("predict outputs/runs/x images", "predict path=outputs/runs/x images=images"),
    ("summarize outputs/sweeps/x", "summarize sweep=outputs/sweeps/x"),
    ("summarize path=outputs/sweeps/x", "summarize sweep=outputs/sweeps/x"),
    ("list path=outputs", "list output_dir=outputs"),
    ("list outputs", "list output_dir=outputs"),
    ("list json", "list format=json"),
    ("list --format json", "list format=json"),
    ("clean outputs", "clean output_dir=outputs"),
    ("clean --yes", "clean yes=true"),
    ("clean -y", "clean yes=true"),
    ("clean yes", "clean yes=true"),
    ("distill mnist", "distill dataset=mnist"),
    ("distill mlp_800", "distill student=mlp_800"),
    ("distill hinton_mnist", "distill experiment=hinton_mnist"),
    ("distill ./photos", "distill dataset=image_folder dataset.root=./photos"),
    ("distill cuda", "distill device=cuda"),
    ("distill temperature 4", "distill temperature=4"),
    ("distill temperature = 4", "distill temperature=4"),
    ("distill temperature= 4", "distill temperature=4"),
    ("distill temperature =4", "distill temperature=4"),
    ("distill temperature:4", "distill temperature=4"),
    ("distill temperature==4", "distill temperature=4"),
    ("distill temperature=4, seed=1", "distill temperature=4 seed=1"),
    ("distill 'temperature=4 seed=1'", "distill temperature=4 seed=1"),
    ("distill temperature=1 2 4", "sweep temperature=1,2,4"),
    ("distill seed=[0,1,2]", "sweep seed=0,1,2"),
    ("sweep seed=[0,1,2]", "sweep seed=0,1,2"),
    ("sweep --seed 0,1", "sweep seed=0,1"),
    ("sweep lr=0.1,0.2", "sweep student.train.optimizer.lr=0.1,0.2"),
    ("distill lr=0.1,0.2", "sweep student.train.optimizer.lr=0.1,0.2"),
    ("distill student.model.widths=64,64", "distill 'student.model.widths=[64,64]'"),
    ("sweep student.model.widths=64,64", "sweep 'student.model.widths=[64,64]'"),
    ("distill student.model.widths=[64, 64]", "distill 'student.model.widths=[64,64]'"),
    ("distill student.model.widths=[64, 64] seed=3", "distill 'student.model.widths=[64,64]' seed=3"),
    ("distill members=[cnn_digits,cnn]", "distill teacher=ensemble 'teacher.members=[cnn_digits,cnn]'"),
    ("train-teacher student=mlp_64", "distill student=mlp_64"),
    ("sweep sweep=a,b", "sweep sweep.name=a"),
    ("sweep sweep=mine seed=0,1", "sweep sweep.name=mine seed=0,1"),
    ("sweep --cfg job temperature=1,2", "sweep temperature=1 --cfg job"),
    ("distill --cfg", "distill --cfg job"),
    ("distill --cfg seed=3", "distill seed=3 --cfg job"),
    ("temperature=4", "distill temperature=4"),
    ("--epochs 5", "distill student.train.epochs=5"),
    ("-m distill seed=0,1", "distill seed=0,1 -m"),
]  # fmt: skip


def accepted(line: str, cwd: Path) -> None:
    """What follows `kd ` is accepted, as far as a config can say; of a sweep its first job."""
    command, *words = split(line)
    words = [first(word) for word in words if word not in ("--cfg", "job", "-m")]
    done = inside("distill" if command == "sweep" else command, *words, "--cfg", "job", cwd=cwd)
    assert (done.status, done.err) == (0, ""), f"kd {line}: {done.err}"


@pytest.mark.parametrize(("typed", "line"), LINES)
def test_what_people_type_is_answered_with_the_line_that_works(typed: str, line: str, tmp_path: Path) -> None:
    done = inside(*split(typed), cwd=tmp_path)
    assert done.status in (1, 2)
    assert done.out == ""
    found = re.fullmatch(r"(.*) Write: kd (.+?)(?: \(or (.+)\))?\n", done.err)
    assert found, done.err
    assert found.group(2) == line
    accepted(line, tmp_path)
    if other := found.group(3):  # in place of the first word that differs
        accepted(f"{line.split()[0]} {other}", tmp_path)
    assert files_below(tmp_path) == []


# A hint that names a word instead of a line: what was typed → the word that is taken instead.
WORDS = [
    ("distill temprature=3", "temprature=3", "temperature=3", "Did you mean 'temperature'?"),
    ("distill student.train.epoch=3", "student.train.epoch=3", "student.train.epochs=3", "Did you mean 'epochs'?"),
    ("evaluate pth=x", "pth=x", "path=x", "Did you mean 'path'?"),
    ("list outptu_dir=x", "outptu_dir=x", "output_dir=x", "Did you mean 'output_dir'?"),
    ("distill dataset=MNIST", "dataset=MNIST", "dataset=mnist", "Did you mean 'mnist'?"),
    ("distill dataset=CIFAR-10", "dataset=CIFAR-10", "dataset=cifar10", "Did you mean 'cifar10'?"),
    ("distill student=cnn", "student=cnn", "student=cnn_small", "Did you mean 'cnn_small'?"),
    ("distill student.model=cnnn", "student.model=cnnn", "student.model=cnn", "Did you mean 'cnn'?"),
    ("distill teacher.train.optimizer=adm", "teacher.train.optimizer=adm", "teacher.train.optimizer=adam",
     "Did you mean 'adam'?"),
    ("distill epochs=abc", "epochs=abc", "student.train.epochs=1", "The key is student.train.epochs."),
    ("distill --epochs=0", "--epochs=0", "student.train.epochs=1", "The key is student.train.epochs."),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "word", "instead", "said"), WORDS)
def test_a_word_that_is_named_is_taken(typed: str, word: str, instead: str, said: str, tmp_path: Path) -> None:
    done = inside(*split(typed), cwd=tmp_path)
    assert done.status == 1
    assert done.err.endswith(f"{said}\n")
    accepted(typed.replace(word, instead), tmp_path)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("distill optimizer=adadelta", "Write student.train.optimizer=…, one of adam, adam_bow, "),
        ("distill model=nope", "Write student.model=…, one of bilstm, bow, "),
        ("distill student.model=nope", "student.model must be one of bilstm, bow, "),
        ("distill student", "Give it a value: student=…, one of bilstm, bow, "),
        ("distill --temperature", "Give it a value: temperature=…."),
        ("distill teacher=x.pt", "Write: kd distill teacher=checkpoint teacher.path=x.pt "
                                 "teacher.model=<the network that it holds>, one of bilstm, bow, "),
        ("predict a.png", "Write: kd predict images=a.png path=<folder of a run or an artifact>"),
        ("sweep student=glob(zzz*)", "student must be a pattern that fits one of bilstm, bow, "),
        ("sweep --cfg job student=glob(zzz*)", "student must be a pattern that fits one of bilstm, bow, "),
        ("distill output_dir=null", "output_dir must be given a value, got 'null'. Without it there is the default, "
                                    "output_dir=outputs."),
        ("distill seed=null", "seed must be given a value, got 'null'. Without it there is the default, seed=0."),
        ("distill teacher=null", "A config group must be given a choice, got teacher=null. Without it there is the "),
        ("distill teacher.generalist=mlp_1200", "Choose it with teacher=specialists."),
        ("distill --config-name mine", "--config-name must be left out, got 'mine'. The command names its config. Make "
                                       "yours an experiment, my_configs/experiment/mine.yaml that begins with "),
        ("distill --config-path x", "--config-path must be left out, got 'x'. --config-dir adds a folder"),
        ("distill --config-dir nowhere", "--config-dir must be a folder, got 'nowhere'."),
        ("distill --config-dir", "--config-dir must be a folder, got ''."),
        ("distill --foo", "kd distill --help lists the keys."),
        ("distill a=b=c", "An argument must be key=value, got 'a=b=c'."),
        ("distill hydra.foo=1", "hydra.foo must be a key of kd distill, got 'hydra.foo=1'. kd distill --help lists"),
        ("distill normalisation.mean=0.5", "normalisation.mean must be a list, got '0.5'. "
                                           "Write 'normalisation.mean=[0.5]'."),
        ("clean --dry-run", "kd clean --help lists the keys."),
    ],
)  # fmt: skip
def test_what_wants_a_choice_is_told_between_what(typed: str, said: str, tmp_path: Path) -> None:
    done = inside(*split(typed), cwd=tmp_path)
    assert done.status == 1
    assert done.out == ""
    assert said in done.err
    assert done.err.count("\n") == 1
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        (
            "sweep augment@transfer.augment=null,jitter seed=0",
            ["sweep transfer.augment=null seed=0", "sweep augment@transfer.augment=jitter seed=0"],
        ),
        (
            "sweep teacher=cnn_digits,ensemble teacher.size=2",
            ["sweep teacher=ensemble teacher.size=2", "sweep teacher=cnn_digits"],
        ),
        (
            "sweep teacher=cnn_digits,cnn,ensemble seed=0,1 teacher.size=2",
            ["sweep seed=0,1 teacher=ensemble teacher.size=2", "sweep seed=0,1 teacher=cnn_digits,cnn"],
        ),
    ],
)
def test_what_no_sweep_can_hold_is_two(typed: str, lines: list[str], tmp_path: Path) -> None:
    done = inside(*split(typed), cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith(f"Write two sweeps: kd {lines[0]} and kd {lines[1]}\n")
    for line in lines:
        accepted(line, tmp_path)
    assert files_below(tmp_path) == []


SILLY = st.sampled_from(["lr", "epochs", "teacher", "student.lr", "x", "size", "dataset", "optimizer", "widths", ""])
VALUES = st.sampled_from(
    ["0.1", "5", "adam", "mnist", "./x", "a b", "[1,", "x.pt", "'", "null", "1,2", "~", "é", "(", ""]
)
FORMS = st.sampled_from(["--{}={}", "--{} {}", "-{} {}", "{}={}", "{} {}", "{}: {}", "+{}={}", "{}==", "{1}"])


@settings(deadline=None, database=None, derandomize=True, max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(FORMS, SILLY, VALUES), min_size=1, max_size=2), st.sampled_from(["distill", "clean", "sweep"])
)
def test_no_line_that_is_printed_is_refused(tmp_path_factory, given_words, command):
    cwd = tmp_path_factory.mktemp("typed")
    words = [part for form, key, value in given_words for part in form.format(key, value).split(" ")]
    done = inside(command, *words, "--cfg", "job", cwd=cwd)
    assert "Traceback" not in done.err
    assert "Keys there: ." not in done.err
    if found := re.search(r" Write: kd ([^…<]+?)(?: \(or .+\))?\n$", done.err):
        accepted(found.group(1), cwd)


def test_the_groups_that_people_choose_from_are_there() -> None:
    for optimizer in ("sgd", "adam", "adamw", "rmsprop"):
        assert (CONFIGS / "optimizer" / f"{optimizer}.yaml").is_file()
