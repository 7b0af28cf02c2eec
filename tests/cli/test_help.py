"""`kd <command> --help`: every key with its meaning and default, at once, as wide as the terminal is."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from running import KD, environment, files_below, inside, kd

from kd_cli.cli import schema
from kd_cli.cli.choices import CONFIGS, choices
from kd_cli.cli.manual import about, choice, commands, manual
from kd_cli.cli.spelling import spelt

GROUPS = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != "hydra")
WORDS = {
    "distill": (
        (),
        ("dataset=mnist", "teacher=specialists", "student=resnet8"),
        ("experiment=specialists_mnist",),
        ("experiment=black_box_noise", "student=mlp_30"),
        ("teacher=ensemble", "objective=logit_matching"),
    ),
    "dump_targets": ((), ("teacher=checkpoint", "teacher.model=mlp_30")),
    "train_teacher": ((), ("dataset=image_folder", "teacher=resnet18")),
}


def leaves(node: DictConfig, prefix: str = "") -> dict[str, object]:
    """Every dotted key of a config that holds no mapping, with its value as it is written."""
    found: dict[str, object] = {}
    for key in map(str, node):
        inner = node._get_node(key)
        if isinstance(inner, DictConfig) and not inner._is_none() and len(inner):
            found |= leaves(inner, f"{prefix}{key}.")
        elif key not in ("_target_", "_partial_"):
            found[prefix + key] = OmegaConf.to_container(node, resolve=False)[key]
    return found


def by_hydra(command: str, words: tuple[str, ...]) -> dict[str, object]:
    schema.register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return leaves(compose(command, [new for word in words for new in spelt(word)]))


@pytest.mark.parametrize(("command", "words"), [(name, words) for name in WORDS for words in WORDS[name]], ids=str)
def test_keys_and_defaults_are_those_that_hydra_composes(command: str, words: tuple[str, ...]) -> None:
    typed = dict(word.rpartition("@")[2].split("=") for word in words)
    shown = {key.name: key for key in manual(command, typed)}
    for name, value in by_hydra(command, words).items():
        assert name in shown, name
        default = shown[name].default
        if value in ({}, None):
            assert default in ("null", "{}"), name
        elif isinstance(value, str):
            assert default == value, name
        else:
            assert OmegaConf.create(f"x: {default}").x == value, name


@pytest.mark.parametrize("command", commands())
def test_every_key_of_a_command_has_a_meaning(command: str) -> None:
    for key in manual(command.replace("-", "_"), {}):
        assert key.meaning, key.name


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_says_what_it_is_and_what_its_keys_mean(group: str) -> None:
    for name in choices(group):
        if group != "train":
            assert about(group, name), name
        for key in choice(group, name) if group != "experiment" else ():
            assert key.meaning, f"{group}/{name}: {key.name}"


def test_a_key_is_shown_with_its_default_and_its_meaning_in_its_section(tmp_path: Path) -> None:
    done = kd("distill", "--help", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"kd distill [key=value …]\n\n{commands()['distill']}\n")
    sections = done.out.split("\n\n")
    (weights,) = (text for text in sections if text.startswith("Distillation\n"))
    assert re.search(r"^  temperature=4\.0 +divides the logits", weights, re.MULTILINE)
    (run,) = (text for text in sections if text.startswith("Store and run\n"))
    assert re.search(r"^  output_dir=outputs +where everything goes", run, re.MULTILINE)
    assert files_below(tmp_path) == []


def test_what_is_chosen_is_marked_and_brings_its_keys(tmp_path: Path) -> None:
    plain, chosen = (inside("distill", *words, "--help", cwd=tmp_path).out for words in ((), ("teacher=ensemble",)))
    assert "cnn_digits*" in plain
    assert "ensemble*" in chosen
    assert "teacher.size=5" in chosen
    assert "teacher.size" not in plain


def test_a_choice_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = inside("distill", "student=mlp_3", "--help", cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("student must be one of bilstm, ")
    assert done.err.endswith("got 'mlp_3'. Did you mean 'mlp_32'?\n")


def test_a_persons_own_choices_are_listed_with_their_keys(tmp_path: Path) -> None:
    (tmp_path / "mine" / "student").mkdir(parents=True)
    (tmp_path / "mine" / "student" / "odd.yaml").write_text("# Mine.\nlayers: 3 # how many\n")
    flags = ("--config-dir", "mine")
    assert " odd " in inside("distill", *flags, "--help", cwd=tmp_path).out
    assert re.search(r"student\.layers=3 +how many", inside("distill", *flags, "student=odd", "-h", cwd=tmp_path).out)


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_no_line_is_wider_than_the_terminal(columns: int, tmp_path: Path) -> None:
    for words in (("--help",), ("distill", "--help"), ("evaluate", "--help")):
        lines = kd(*words, cwd=tmp_path, COLUMNS=str(columns)).out.splitlines()
        whole = [line for line in lines if len(line.split()) > 1]  # a single long word is not broken
        assert max(map(len, whole)) <= min(columns, 120)


def test_a_pager_gets_lines_as_wide_as_the_terminal_behind_it(tmp_path: Path) -> None:
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (40, 70))
    done = subprocess.run(
        [KD, "distill", "--help"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=child, check=True
    )
    os.close(child)
    os.close(parent)
    lines = done.stdout.decode().splitlines()
    assert 60 < max(len(line) for line in lines if len(line.split()) > 1) <= 70


def test_neither_a_pipe_nor_a_terminal_gets_colour_codes(tmp_path: Path) -> None:
    assert "\x1b" not in kd("distill", "--help", cwd=tmp_path, FORCE_COLOR="1").out
    parent, child = pty.openpty()
    subprocess.run([KD, "list", "--help"], cwd=tmp_path, env=environment(), stdout=child, check=True)
    os.close(child)
    assert b"\x1b" not in os.read(parent, 1 << 16)
    os.close(parent)


def test_help_of_a_command_imports_neither_hydra_nor_torch(tmp_path: Path) -> None:
    code = "import sys; from kd_cli.cli.main import run; run(['distill', '--help'])"
    code += "; print({'hydra', 'omegaconf', 'torch', 'yaml', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_pipe_that_closes_early_gets_no_traceback(tmp_path: Path) -> None:
    line = f"'{KD}' distill --help | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("kd distill [key=value …]\n", "")


def test_hydras_own_help_stays(tmp_path: Path) -> None:
    assert "hydra" in inside("distill", "--hydra-help", cwd=tmp_path).out.lower()
