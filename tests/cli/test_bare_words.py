"""A bare word at a key that has a group of its own chooses a file of the group, wherever the key stands."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from running import TINY, inside

from kd_cli.cli.spelling import chosen, spelt

MINE = "_target_: kd_cli.models.mlp.mlp\n_partial_: true\nwidths: [5]\n"


def shown(*words: str, cwd: Path) -> Any:
    done = inside("distill", *words, "--cfg", "job", cwd=cwd)
    assert (done.status, done.err) == (0, ""), done.err
    return yaml.safe_load(done.out)


def node(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize(
    ("before", "group", "key", "name"),
    [
        ("", "model", "student.model", "cnn"),
        ("", "model", "teacher.model", "mlp_30"),
        ("", "recipe", "student.train", "mnist"),
        ("", "optimizer", "student.train.optimizer", "adamw"),
        ("", "scheduler", "teacher.train.scheduler", "one_cycle"),
        ("", "augment", "transfer.augment", "jitter"),
        ("", "dataset", "transfer.dataset", "noise"),
        ("transfer.augment=mixup", "augment", "transfer.augment.inner", "jitter"),
        ("teacher=ensemble", "teacher", "teacher.member", "mlp_1200"),
        ("teacher=ensemble", "model", "teacher.member.model", "mlp_30"),
        ("teacher=ensemble teacher.members=[cnn,mlp_8]", "model", "teacher.members.1.model", "mlp_30"),
        ("teacher=specialists", "teacher", "teacher.generalist", "mlp_1200"),
        ("teacher=specialists", "optimizer", "teacher.generalist.train.optimizer", "adam"),
        ("experiment=hinton_mnist_views", "augment", "transfer.augment", "affine"),
        ("experiment=specialists_mnist", "teacher", "teacher.generalist", "cnn"),
    ],
)
def test_the_short_spelling_is_the_long_one(before: str, group: str, key: str, name: str, tmp_path: Path) -> None:
    words = before.split()
    short, plain = shown(*words, f"{key}={name}", cwd=tmp_path), shown(*words, cwd=tmp_path)
    assert short == shown(*words, f"{group}@{key}={name}", cwd=tmp_path)
    assert node(short, key) != node(plain, key)


def test_a_named_member_is_added(tmp_path: Path) -> None:
    words = ("teacher=ensemble", "+teacher.members.wide=mlp_1200", "teacher.members.wide.model.dropout=0.1")
    assert list(shown(*words, cwd=tmp_path)["teacher"]["members"]) == ["wide"]


@pytest.mark.parametrize(
    ("word", "group"),
    [
        ("student.model=mlp_8,mlp_32", "model"),
        ("student.model=choice(mlp_8,mlp_32)", "model"),
        ("student.model=glob(mlp_*)", "model"),
        ("student.model=sort(mlp_8,cnn)", "model"),
        ("student.model='cnn'", ""),  # quoted, it is text
        ("student.model=nope", ""),
        ("student.model=null", ""),
        ("student.model=", ""),
        ("student.model=[cnn]", ""),
        ("student.model={a: cnn}", ""),
        ("student.model=${teacher.model}", ""),
        ("student.model.widths=[3]", ""),
        ("student.train.epochs=cnn", ""),
        ("model@student.model=cnn", ""),  # as Hydra has it
        ("dataset=mnist", ""),  # a group for Hydra too
        ("+student.model=cnn", ""),
        ("~student.model=cnn", ""),
        ("hydra.job.dataset=mnist", ""),
    ],
)
def test_which_words_choose(word: str, group: str) -> None:
    assert chosen(word) == group
    assert spelt(word) == [f"{group}@{word}" if group else word]


def test_files_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "tiny.yaml").write_text(MINE)
    words = ("--config-dir", "mine", "student.model=tiny")
    assert shown(*words, cwd=tmp_path)["student"]["model"]["widths"] == [5]
    short = ("--config-dir", "mine", *TINY, "teacher.train.epochs=1", "student.train.epochs=1", "baseline=false")
    done = inside("sweep", *short, "student.model=tiny,mlp_8", cwd=tmp_path)
    assert done.status == 0, done.err
    models = [path.parent for path in done.run.glob("*/result.json")]
    assert len(models) == 2


def test_a_sweep_names_the_word_that_is_no_file(tmp_path: Path) -> None:
    done = inside("sweep", "student.model=mlp_8,mlp_33", cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("student.model must be one of bilstm, bow, ")
    assert "got 'mlp_33'. Did you mean 'mlp_3" in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_teacher_of_ones_own_has_its_words(tmp_path: Path) -> None:
    (tmp_path / "mine" / "teacher").mkdir(parents=True)
    own = "_target_: my_api.Api\nmodel: large\nmembers: []\nbackend: {dataset: x}\n"
    (tmp_path / "mine" / "teacher" / "api.yaml").write_text(own)
    (tmp_path / "mine" / "experiment").mkdir()
    (tmp_path / "mine" / "experiment" / "asked.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /teacher: api\n"
    )
    typed = {"model": "cnn", "members": ["cnn", "mlp_8"], "backend.dataset": "mnist"}  # files of ours, but his words
    words = [f"teacher.{key}={str(value).replace(chr(39), '')}" for key, value in typed.items()]
    for choice in ("teacher=api", "experiment=asked"):
        config = shown("--config-dir", "mine", choice, "student.model=cnn", *words, cwd=tmp_path)
        assert {key: node(config["teacher"], key) for key in typed} == typed
        assert "cnn" in config["student"]["model"]["_target_"]
    below = ("teacher=specialists", "teacher.generalist=api", "teacher.generalist.model=cnn")
    config = shown("--config-dir", "mine", *below, cwd=tmp_path)
    assert config["teacher"]["generalist"]["model"] == "cnn"
    config = shown("--config-dir", "mine", "teacher=mlp_8", "teacher.model=cnn", cwd=tmp_path)
    assert "cnn" in config["teacher"]["model"]["_target_"]


def test_a_teacher_of_ones_own_has_its_words_in_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "mine" / "teacher").mkdir(parents=True)
    (tmp_path / "mine" / "teacher" / "api.yaml").write_text("_target_: my_api.Api\nmodel: large\n")
    done = inside("sweep", "--config-dir", "mine", "teacher=api", "teacher.model=cnn,gpt", cwd=tmp_path)
    assert "my_api" in done.err  # each job asks for the teacher, which is not there
    assert "config group" not in done.err


def test_the_output_folder_that_was_typed_is_that_of_every_job(tmp_path: Path) -> None:
    words = (*TINY, "teacher.train.epochs=1", "student.train.epochs=1", "baseline=false", "output_dir=there")
    done = inside("sweep", *words, "student.model=mlp_8,mlp_32", cwd=tmp_path)
    assert done.status == 0, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    "word", ["+teacher@teacher.members.good=cnn", "model@student.model=cnn", "++model@student.model=cnn"]
)
def test_a_key_that_names_its_group_is_read_as_it_is(word: str) -> None:
    assert spelt(word) == [word]
