"""What a sweep is called, and what it may not be called."""

import json
import re
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from running import TINY, files_below, inside

from kd_cli.cli import schema
from kd_cli.cli.choices import CONFIGS
from kd_cli.cli.sweep_name import sweep_name

WORDS = ("temperature=1,4", "seed=0,1")


def named(command: str, *words: str, own: Path | None = None) -> str:
    """The name of a sweep, its config composed as Hydra does before the first job."""
    schema.register()
    search = [f"hydra.searchpath=[file://{own}]"] if own else []
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        return sweep_name(hydra.compose_config(command, [*words, *search], run_mode=RunMode.MULTIRUN))


def test_it_follows_from_what_changes_a_result_in_whatever_order() -> None:
    name = named("sweep", *WORDS)
    assert re.fullmatch(r"s[0-9a-f]{10}", name)
    execution = ["device=cpu", "output_dir=elsewhere", "compile=true", "hydra.job.num=1", "hydra/launcher=basic"]
    assert named("sweep", *reversed(WORDS), *execution) == name
    assert named("sweep", *WORDS, "soft_weight=0.3", "hard_weight=0.2") == named(
        "sweep", "hard_weight=0.20", *WORDS, "soft_weight=0.3"
    )
    others = [("seed=0,2",), ("precision=bf16-mixed",), ("soft_weight=0.3",), ("student=mlp_30",), ("~baseline",)]
    assert len({name, *(named("sweep", "temperature=1,4", "seed=0,1", *words) for words in others[1:4])}) == 4
    assert named("sweep", "temperature=1,4", *others[0]) != name
    assert named("sweep", *WORDS, "sweep.name=mine") == "mine"


def test_what_an_experiment_varies_and_what_is_typed_over_it_are_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra: {sweeper: {params: {seed: '0,1,2', student: 'mlp_30,mlp_300'}}}\n"
    for name, content in (("a", text), ("b", text.replace("0,1,2", "0,1"))):
        (tmp_path / "experiment" / f"{name}.yaml").write_text(content)
    sweeps = [("experiment=a",), ("experiment=b",), ("experiment=a", "seed=0"), ("experiment=a", "seed=0,3")]
    assert len({named("sweep", *words, own=tmp_path) for words in sweeps}) == 4
    assert named("sweep", "experiment=a", "seed=0,1", own=tmp_path) == named("sweep", "experiment=b", own=tmp_path)


@pytest.mark.parametrize("word", ["temperature=${nope}", "student=${nope}", "output_dir=${nope}", "sweep.name=${nope}"])
def test_what_cannot_be_resolved_has_no_folder_of_a_strange_name(word: str, tmp_path: Path) -> None:
    refused = inside("sweep", *TINY, word, cwd=tmp_path)
    assert refused.status == 1
    assert "Traceback" not in refused.err
    assert "warn" not in refused.err
    assert not list(tmp_path.rglob("None"))


def test_each_command_has_its_own() -> None:
    commands = ("train_teacher", "dump_targets", "distill", "sweep")
    assert len({named(command, "teacher.seed=0,1") for command in commands}) == len(commands)


@pytest.mark.parametrize("words", [("student=mine",), ("student=mlp_30,mine",), ("experiment=mine,born_again",)])
@pytest.mark.parametrize("changed", ["student/mine.yaml", "student/parts.yaml"])
def test_the_contents_of_ones_own_configs_are_part_of_it(words: tuple[str, ...], changed: str, tmp_path: Path) -> None:
    """Also where a choice that is varied takes them from another file."""

    def own(folder: str, epochs: int, width: int) -> Path:
        (tmp_path / folder / "student").mkdir(parents=True)
        (tmp_path / folder / "experiment").mkdir()
        files = {
            "student/mine.yaml": f"defaults: [mlp_64, parts, _self_]\ntrain: {{epochs: {epochs}}}\n",
            "student/parts.yaml": f"model: {{widths: [{width}]}}\n",
            "experiment/mine.yaml": "# @package _global_\ndefaults: [{override /student: mine}]\n",
        }
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
        return tmp_path / folder

    other = (4, 8) if changed == "student/mine.yaml" else (3, 9)
    names = [
        named("sweep", *words, own=own(folder, *of)) for folder, of in (("a", (3, 8)), ("b", (3, 8)), ("c", other))
    ]
    assert names[0] == names[1] != names[2]


REFUSED = {
    "sweep.name=exp/temps": "sweep.name must be a plain name of letters, digits and . _ -, got 'exp/temps'.",
    "sweep.name=..": "sweep.name must be a plain name of letters, digits and . _ -, got '..'.",
    "sweep.name=/x/y": "sweep.name must be a plain name of letters, digits and . _ -, got '/x/y'.",
    "sweep.name='a b'": "sweep.name must be a plain name of letters, digits and . _ -, got 'a b'.",
    "sweep.name=''": "sweep.name must be a plain name of letters, digits and . _ -, got ''.",
    f"sweep.name={'x' * 101}": f"sweep.name must be a plain name of letters, digits and . _ -, got '{'x' * 101}'.",
    "sweep.name=a,b": "sweep.name must be the same for all jobs of a sweep, got 'a,b'.",
    "output_dir=p1,p2": "output_dir must be the same for all jobs of a sweep, got 'p1,p2'.",
    "output_dir=": "output_dir must be the name of a folder, got ''.",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_no_sweep_can_be_called_or_vary_is_refused_before_anything_is_written(word: str, tmp_path: Path) -> None:
    refused = inside("sweep", *TINY, "temperature=1,2", word, cwd=tmp_path)
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.startswith(REFUSED[word])
    assert files_below(tmp_path) == []


def test_a_choice_that_sets_another_output_folder_cannot_be_varied(tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    for name in "ab":
        (tmp_path / "own" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\noutput_dir: {name}\n")
    refused = inside("sweep", "experiment=a,b", "--config-dir", "own", cwd=tmp_path)
    assert refused.err.startswith("output_dir must be the same for all jobs of a sweep, got 'a'.")


def test_two_commands_keep_each_their_results(tmp_path: Path) -> None:
    words = ("--multirun", TINY[0], "teacher.seed=0,1")
    runs = [inside(command, *words, cwd=tmp_path) for command in ("train-teacher", "dump-targets")]
    assert [done.status for done in runs] == [0, 0], runs[1].err
    for done, command in zip(runs, ("train-teacher", "dump-targets"), strict=True):
        results = [json.loads(path.read_text()) for path in done.run.glob("*/result.json")]
        assert [result["command"] for result in results] == [command] * 2
