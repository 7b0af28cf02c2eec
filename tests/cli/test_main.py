import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from commands_of_kd import COMMANDS
from running import environment, files_below, inside, kd

import kd_cli
from kd_cli.cli.choices import CONFIGS

LISTED = ", ".join(COMMANDS)


def first_line(command: str) -> str:
    return (CONFIGS / f"{command.replace('-', '_')}.yaml").read_text().splitlines()[0].removeprefix("# ")


def test_help_names_every_command_with_the_first_line_of_its_yaml(tmp_path: Path) -> None:
    done = kd("--help", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    lines = [line.strip() for line in done.out.splitlines()]
    for command in COMMANDS:
        assert any(line.split() and line.startswith(command) and line.endswith(first_line(command)) for line in lines)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("words", [(), ("-h",), ("help",)])
def test_no_arguments_and_the_other_spellings_of_help_print_the_same(words: tuple[str, ...], tmp_path: Path) -> None:
    assert inside(*words, cwd=tmp_path) == inside("--help", cwd=tmp_path)


def test_version(tmp_path: Path) -> None:
    done = kd("--version", cwd=tmp_path)
    assert (done.status, done.out, done.err) == (0, f"kd {kd_cli.__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "meant"), [("distil", "distill"), ("evalute", "evaluate"), ("dump_target", "dump-targets")]
)
def test_a_mistyped_command_gets_a_did_you_mean(typed: str, meant: str, tmp_path: Path) -> None:
    done = inside(typed, "temperature=2", cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    expected = f"The command must be one of {LISTED}, got {typed!r}. Did you mean {meant!r}?\n"
    assert done.err == expected


def test_a_word_that_resembles_no_command(tmp_path: Path) -> None:
    done = inside("zzz", cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err == f"The command must be one of {LISTED}, got 'zzz'. See kd --help.\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_of_its_own(command: str, tmp_path: Path) -> None:
    done = inside(command, "--help", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"kd {command} [key=value …]")
    assert first_line(command) in done.out
    assert files_below(tmp_path) == []


def test_cfg_job_prints_the_config_as_it_would_run(tmp_path: Path) -> None:
    import yaml

    done = kd("distill", "--cfg", "job", "temperature=7", "student.model.widths=[5]", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    config = yaml.safe_load(done.out)
    assert config["temperature"] == 7
    assert config["student"]["model"]["widths"] == [5]
    assert files_below(tmp_path) == []


def test_flags_may_stand_before_and_after_overrides(tmp_path: Path) -> None:
    printed = {
        inside(*words, cwd=tmp_path).out
        for words in (
            ("distill", "--cfg", "job", "temperature=7", "seed=3"),
            ("distill", "temperature=7", "--cfg", "job", "seed=3"),
            ("distill", "temperature=7", "seed=3", "--cfg", "job"),
            ("distill", "temperature=7", "-c", "job", "seed=3", "--config-name", "distill"),
        )
    }
    assert len(printed) == 1
    assert "temperature: 7" in printed.pop()


@pytest.mark.parametrize("what", ["defaults", "config", "searchpath", "plugins", "all"])
def test_info_works(what: str, tmp_path: Path) -> None:
    done = inside("distill", "--info", what, cwd=tmp_path)
    assert done.status == 0
    assert "Traceback" not in done.err
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--help",), ""),
        (("--version",), ""),
        (("distil",), ""),
        (("distill", "--help"), ""),
        (("distill", "--cfg", "job"), ""),
        (("-sc", "query=bash"), "kd distill dataset="),
        (("completion", "bash"), ""),
        (("distill", "temperature=0"), ""),
        (("distill", "temprature=2"), ""),
        (("distill", "student=mlp16"), ""),
        (("sweep", "--cfg", "job"), ""),
        (("list",), ""),
        (("clean",), ""),
    ],
)
def test_what_needs_no_model_does_not_import_torch(words: tuple[str, ...], line: str, tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import sys
        from kd_cli.cli.main import run
        run({list(words)!r})
        print("heavy:", *sorted({{"torch", "torchvision", "sklearn", "numpy", "scipy"}} & set(sys.modules)))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(COMP_LINE=line),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_help_does_not_even_import_hydra(tmp_path: Path) -> None:
    code = "import sys; from kd_cli.cli.main import run; run(['--help']); print('hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
