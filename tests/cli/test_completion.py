import re
import subprocess
from pathlib import Path

import pytest
from commands_of_kd import COMMANDS
from running import files_below, inside

from kd_cli.cli.choices import CONFIGS


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
        ("kd distill dataset=m", {"dataset=magika", "dataset=mnist"}),
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
