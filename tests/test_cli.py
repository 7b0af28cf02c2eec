import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from running import KD, TINY, environment, files_below, inside, kd

import kd_cli
from kd_cli.cli.choices import CONFIGS

COMMANDS = ("clean", "distill", "dump-targets", "evaluate", "list", "predict", "summarize", "sweep", "train-teacher")
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
    assert f"dataset: {', '.join(sorted(path.stem for path in (CONFIGS / 'dataset').glob('*.yaml')))}" in done.out
    assert "Keys and their defaults" in done.out
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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(shell: str, tmp_path: Path) -> None:
    done = inside("completion", shell, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert f"query={'fish' if shell == 'fish' else 'bash'}" in done.out
    assert re.search(r"complete .*\bkd\b", done.out)


def test_the_bash_script_is_valid_bash(tmp_path: Path) -> None:
    script = inside("completion", "bash", cwd=tmp_path).out
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("words", [(), ("tcsh",), ("bash", "zsh")])
def test_completion_wants_one_shell(words: tuple[str, ...], tmp_path: Path) -> None:
    done = inside("completion", *words, cwd=tmp_path)
    got = " ".join(words) or "nothing"
    assert (done.status, done.out) == (2, "")
    assert done.err == f"kd completion must be given one of bash, zsh, fish, got {got}.\n"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("kd ", {*COMMANDS, "completion"}),
        ("kd di", {"distill"}),
        ("kd d", {"distill", "dump-targets"}),
        (
            "kd distill dataset=",
            {f"dataset={path.stem}" for path in (CONFIGS / "dataset").glob("*.yaml")},
        ),
        ("kd distill dataset=m", {"dataset=mnist"}),
        ("kd distill temperature=2 student=mlp_3", {"student=mlp_30", "student=mlp_300", "student=mlp_32"}),
        ("kd train-teacher teacher.train.ep", {"teacher.train.epochs="}),
        ("kd evaluate pa", {"path="}),
        ("kd nonsense da", set()),
    ],
)
def test_completion_queries(line: str, answer: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    done = inside("-sc", "query=bash", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert set(done.out.split()) == answer
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run by the installed command: its working folder, standard output and standard error."""
    folder = tmp_path_factory.mktemp("finished")
    done = kd("distill", *TINY, cwd=folder)
    assert done.status == 0, done.err
    return folder, done.out, done.err


def test_standard_output_of_a_run_is_its_folders_path_alone(finished: tuple[Path, str, str]) -> None:
    folder, out, _ = finished
    assert out.count("\n") == 1
    run = Path(out.rstrip("\n"))
    assert run.parent == folder / "outputs" / "runs"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_distill_[0-9a-f]{6}", run.name)
    assert {path.name for path in run.iterdir()} == {".hydra", "kd.log", "result.json"}


def test_table_and_progress_go_to_standard_error(finished: tuple[Path, str, str]) -> None:
    _, out, err = finished
    assert "teacher: epoch 6/6" in err
    assert re.search(r"test errors\s+│\s+\d+ of 599 │\s+\d+ of 599 │\s+\d+ of 599 │", err)
    assert "\x1b[" not in out + err, "no colours where the output is no terminal"
    log = (Path(out.rstrip("\n")) / "kd.log").read_text()
    assert "teacher: epoch 6/6" in log


def test_every_path_can_be_pasted_into_a_command_and_none_holds_a_pickle(finished: tuple[Path, str, str]) -> None:
    folder, _, _ = finished
    paths = files_below(folder)
    assert {path.split("/")[1] for path in paths if "/" in path} == {
        ".locks",
        "runs",
        "soft_targets",
        "students",
        "teachers",
    }
    assert all(re.fullmatch(r"[A-Za-z0-9._/-]+", path) for path in paths)
    kinds = {Path(path).suffix for path in paths if (folder / path).is_file()}
    assert kinds == {".safetensors", ".json", ".jsonl", ".yaml", ".log", ".lock"}


def test_evaluate_prints_its_answer_on_standard_output(finished: tuple[Path, str, str], tmp_path: Path) -> None:
    run = finished[1].rstrip("\n")
    done = kd("evaluate", f"path={run}", "format=json", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["n"] == 599
    assert files_below(tmp_path) == []


def test_a_refused_run_does_not_spoil_the_next_one_in_the_same_process(tmp_path: Path) -> None:
    refused = inside("train-teacher", "teacher.train.epochs=0", cwd=tmp_path)
    assert refused.status == 1
    done = inside("train-teacher", "teacher.train.epochs=1", cwd=tmp_path)
    assert (done.status, "must be" in done.err) == (0, False)
    assert done.run.is_dir()


def test_a_closed_pipe_is_no_error_of_the_output_folder(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(KD), "distill", "--help"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read().decode()
    process.stderr.close()
    process.wait()
    assert "output_dir" not in told
    assert "Traceback" not in told


def listen() -> None:
    """What a background job starts ignores SIGINT, and its children inherit that; a person's shell does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupted(folder: Path, *words: str, when: str) -> tuple[int, str, str]:
    """Presses Ctrl-C once standard error shows `when`."""
    process = subprocess.Popen(
        [str(KD), *words],
        cwd=folder,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=listen,
    )
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if when in line:
            break
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, err = process.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, seen + err


LONG = ("teacher.train.epochs=2", "student.train.epochs=100000")
KEPT = (
    "Interrupted. Finished teachers, soft targets and students are kept, and what was written down of an "
    "unfinished one: the same command goes on from there."
)


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(tmp_path: Path) -> None:
    status, out, err = interrupted(tmp_path, "distill", *LONG, when="the teacher is right on")
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == KEPT
    assert "Traceback" not in err
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "interrupted"
    assert result["command"] == "distill"
    assert result["overrides"] == list(LONG)
    assert set(result["stages"]) == {"teacher", "soft_targets"}
    students = tmp_path / "outputs" / "students"
    assert all(path.name.endswith(".partial") for path in students.glob("*")), "nothing half-written under its name"

    again = inside("dump-targets", LONG[0], cwd=tmp_path).result
    assert again["stages"]["teacher"]["cached"]
    assert again["stages"]["soft_targets"]["cached"]


@pytest.mark.slow
def test_ctrl_c_in_a_sweep_stops_all_of_it(tmp_path: Path) -> None:
    status, _, err = interrupted(tmp_path, "sweep", *LONG, "temperature=1,2", when="the teacher is right on")
    assert status == 130
    assert "Traceback" not in err
    assert KEPT in err.splitlines()
    (first,) = (tmp_path / "outputs" / "sweeps").glob("*/*/result.json")
    assert json.loads(first.read_text())["status"] == "interrupted"
