"""What is typed is taken as it stands: names, lists, folders; and what is shown of it."""

from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from lines import split
from running import TINY, files_below, inside

from kd_cli.cli.spelling import spelt
from kd_cli.screen import quoted


@pytest.mark.parametrize("words", [("--help", "distill"), ("help", "distill"), ("distill", "help"), ("-h", "distill")])
def test_help_of_a_command_in_each_order(words: tuple[str, ...], tmp_path: Path) -> None:
    done = inside(*words, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert done.out == inside("distill", "--help", cwd=tmp_path).out
    assert done.out.startswith("kd distill [key=value …]")


def test_help_of_no_command_names_one(tmp_path: Path) -> None:
    done = inside("help", "swep", cwd=tmp_path)
    assert done.status == 2
    assert done.err.endswith("Did you mean 'sweep'?\n")


# What is taken as it is meant.


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("output_dir=1e3", "output_dir: '1e3'"),
        ("output_dir=007", "output_dir: '007'"),
        ("output_dir=true", "output_dir: 'true'"),
        ("output_dir=1_000", "output_dir: '1_000'"),
        ("output_dir=a b (1)", "output_dir: a b (1)"),
        ("output_dir=a=b", "output_dir: a=b"),
        ("output_dir=it's", "output_dir: it's"),
        ("output_dir=über/ß", "output_dir: über/ß"),
        ("student.model.widths=[64, 64]", "  - 64\n    - 64"),
        ("augment@transfer.augment=null", "  augment: null"),
    ],
)
def test_names_of_files_and_lists_are_taken_as_typed(word: str, shown: str, tmp_path: Path) -> None:
    done = inside("distill", word, "--cfg", "job", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert shown.strip() in done.out


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    done = inside("distill", "output_dir=~/x", "dataset=mnist", "dataset.root=~/data", "--cfg", "job", cwd=tmp_path)
    shown = yaml.safe_load(done.out)
    assert shown["output_dir"] == f"{tmp_path}/my home/x"
    assert shown["dataset"]["root"] == f"{tmp_path}/my home/data"
    words = ("teacher=ensemble", "teacher.members=[~/a,cnn]", "--cfg", "job")
    members = yaml.safe_load(inside("distill", *words, cwd=tmp_path).out)["teacher"]["members"]
    assert members["0"]["path"] == f"{tmp_path}/my home/a"
    assert inside("list", "output_dir=~", cwd=tmp_path).status == 0


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30))
def test_a_quoted_value_is_the_text_itself(text: str) -> None:
    assert OverridesParser.create().parse_override(f"key={quoted(text)}").value() == text


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters=",~"), min_size=1, max_size=30))
def test_the_name_of_a_folder_stays_text(name: str) -> None:
    if name[0] in "'\"[{" or "${" in name or name in ("null", "None") or name != name.strip() or "(" in name:
        return
    (word,) = spelt(f"output_dir={name}")
    assert str(OverridesParser.create().parse_override(word).value()) == name


def test_a_run_in_a_folder_whose_name_is_a_number(tmp_path: Path) -> None:
    done = inside("train-teacher", TINY[0], "output_dir=1e3", "hydra.job.chdir=true", cwd=tmp_path)
    assert done.status == 0, done.err
    assert done.run.parent == tmp_path / "1e3" / "runs", "whatever hydra.job.chdir says"
    assert [path.name for path in tmp_path.iterdir()] == ["1e3"]
    assert inside("list", "1e3", cwd=tmp_path).err.endswith("Write: kd list output_dir=1e3\n")
    assert "1 artifacts in 1e3" in inside("list", "output_dir=1e3", cwd=tmp_path).out


def test_adam_trains_at_its_own_rate(tmp_path: Path) -> None:
    done = inside("train-teacher", "optimizer@teacher.train.optimizer=adam", "teacher.train.epochs=2", cwd=tmp_path)
    assert done.status == 0, done.err
    (config,) = (tmp_path / "outputs" / "teachers").glob("*/config.yaml")
    assert "torch.optim.Adam\n" in config.read_text()
    assert "lr: 0.001" in config.read_text()


# --cfg says what a run would.


@pytest.mark.parametrize(
    "words",
    [
        ["temperature=-1"],
        ["student.model=cnnx"],
        ["bias_correction=x"],
        ["soft_weight=0", "hard_weight=0"],
        ["seed=-1"],
        ["device=gpu"],
        ["targets.dtype=int8"],
        ["student.train.epochs=0"],
        ["teacher.train.batch_size=2.5"],
        ["student.train.clip=-1"],
        ["student.train.precision=8"],
        ["transfer.views=0"],
        ["teacher=ensemble", "teacher.member.train.epochs=0"],
    ],
)
def test_a_config_that_would_be_refused_is_not_shown(words: list[str], tmp_path: Path) -> None:
    run = inside("distill", *words, cwd=tmp_path)
    for flags in (["--cfg", "job"], ["-c", "all"], ["--cfg=job", "--resolve"]):
        shown = inside("distill", *flags, *words, cwd=tmp_path)
        assert (shown.status, shown.out, shown.err) == (1, "", run.err)
    assert files_below(tmp_path) == []


def test_a_sweeps_config_is_shown_and_checked_alike(tmp_path: Path) -> None:
    assert inside("sweep", "--cfg", "job", "temperature=2", cwd=tmp_path).status == 0
    done = inside("sweep", "--cfg", "job", "temperature=-2", cwd=tmp_path)
    assert (done.status, done.err) == (1, "temperature must be a number > 0, got -2.0.\n")


def test_a_config_with_choices_of_ones_own_is_shown_and_answered(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "tiny.yaml").write_text(
        "_target_: my_models.tiny\n_partial_: true\nhidden_units: 3\n"
    )
    words = ("--config-dir", "mine", "model@student.model=tiny")
    assert inside("distill", *words, "--cfg", "job", cwd=tmp_path).status == 0
    done = inside("distill", *words, "hidden_units=4", cwd=tmp_path)
    line = "kd distill model@student.model=tiny student.model.hidden_units=4 --config-dir mine"
    assert done.err.endswith(f" Write: {line}\n")
    assert inside(*split(line)[1:], "--cfg", "job", cwd=tmp_path).status == 0
