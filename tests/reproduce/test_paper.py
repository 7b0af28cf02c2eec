"""The page of the paper's claims: made from what real sweeps left, judged by its rules, silent about nothing."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from running import environment, inside
from scipy.stats import ttest_1samp

REPRODUCE = Path(__file__).parents[2] / "reproduce"
sys.path.insert(0, str(REPRODUCE))

from experiments import EXPERIMENTS  # noqa: E402
from experiments.claims import agrees, alike, averaged, smaller  # noqa: E402

pytest.importorskip("matplotlib", reason="pip install 'kd-distill[paper]'")

SHORT = ("teacher.train.epochs=2", "student.train.epochs=2")


def paper(*words: str, script: str = "paper.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPRODUCE / script), *words]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, encoding="utf-8")


def row(page: str, text: str) -> list[str]:
    """The cells of the row that begins with this text."""
    (found,) = (line for line in page.splitlines() if line.startswith(f"| {text} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


# --- the rules


@pytest.mark.parametrize(
    ("small", "large", "verdict"),
    [
        ({0: 10, 1: 11, 2: 12}, {0: 20, 1: 21, 2: 23}, "reproduced"),
        ({0: 20, 1: 21, 2: 23}, {0: 10, 1: 11, 2: 12}, "contradicted"),
        ({0: 10, 1: 11, 2: 12}, {0: 11, 1: 9, 2: 14}, "undecided"),
        ({0: 10, 1: 11}, {1: 20, 2: 21}, "one seed"),
        ({0: 10}, {1: 20}, "not run"),
        ({}, {}, "not run"),
    ],
)
def test_a_comparison_is_decided_by_its_paired_interval(small: Any, large: Any, verdict: str) -> None:
    claim = smaller("a", "b", small, large)
    assert claim.verdict == verdict
    seeds = sorted(small.keys() & large.keys())
    if len(seeds) > 1:
        known = ttest_1samp([large[k] - small[k] for k in seeds], 0).confidence_interval(0.95)
        assert f"[{known.low:.1f}, {known.high:.1f}]" in claim.measured
        assert (known.low > 0, known.high < 0) == (verdict == "reproduced", verdict == "contradicted")


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ({0: 100, 1: 100, 2: 100}, {0: 101, 1: 102, 2: 100}, "reproduced"),
        ({0: 100, 1: 100, 2: 100}, {0: 151, 1: 152, 2: 150}, "contradicted"),
        ({0: 100, 1: 100, 2: 100}, {0: 110, 1: 90, 2: 100}, "undecided"),  # not told apart, but not shown alike either
        ({0: 100}, {0: 100}, "one seed"),
        ({}, {}, "not run"),
    ],
)
def test_alike_means_within_the_margin_and_not_merely_undecided(one: Any, other: Any, verdict: str) -> None:
    assert alike("a", "b", one, other).verdict == verdict


@pytest.mark.parametrize(
    ("runs", "verdict"), [({0: 66, 1: 69, 2: 67}, "agrees"), ({0: 76, 1: 79, 2: 77}, "differs"), ({0: 67}, "one seed")]
)
def test_a_figure_agrees_within_the_interval_of_the_mean(runs: Any, verdict: str) -> None:
    assert agrees("a", 67, runs).verdict == verdict


def test_an_average_over_settings_is_over_the_seeds_that_all_of_them_have() -> None:
    assert averaged([{0: 1, 1: 2}, {}, {1: 4, 2: 6}]) == {1: 3}
    assert averaged([{}]) == {}


# --- the page


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with one sweep of the page, of small digits."""
    folder = tmp_path_factory.mktemp("paper")
    words = (
        "experiment=temperature_by_width",
        "dataset=digits",
        "teacher=cnn_digits",
        "student=mlp_30,mlp_300",
        *SHORT,
    )
    words += ("temperature=1,4", "seed=0,1,2", "sweep.name=temperature_by_width_short", "budget=short")
    done = inside("sweep", *words, cwd=folder)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="module")
def page(store: Path) -> str:
    done = paper("--write", f"--output={store / 'outputs'}", f"--page={store / 'docs' / 'paper.md'}")
    assert done.returncode == 0, done.stderr
    return (store / "docs" / "paper.md").read_text(encoding="utf-8")


def errors(store: Path, student: str, temperature: float) -> list[int]:
    """From the jobs' own files."""
    found = {}
    for path in (store / "outputs" / "sweeps" / "temperature_by_width_short").glob("*/result.json"):
        result = json.loads(path.read_text())
        if f"student={student}" in result["overrides"] and result["temperature"] == temperature:
            found[result["seed"]] = result["student"]["errors"]
    return [found[seed] for seed in sorted(found)]


def test_the_table_holds_mean_and_deviation_of_every_cell(store: Path, page: str) -> None:
    for student, name in (("mlp_30", "2 × 30"), ("mlp_300", "2 × 300")):
        cells = row(page.split("## temperature_by_width")[1], f"{name} | ".rstrip(" |"))
        for cell, temperature in zip(cells[1:3], (1, 4), strict=True):
            known = errors(store, student, temperature)
            assert cell == f"{mean(known):.1f} ± {stdev(known):.1f}"


def test_a_claim_is_judged_on_its_own_jobs(store: Path, page: str) -> None:
    measured, seeds, verdict = row(page, "2 × 30: T = 2.5 and 4 make fewer errors than 1 and 2")[2:5]
    middle, lower = errors(store, "mlp_30", 4), errors(store, "mlp_30", 1)  # of the temperatures that have run
    known = ttest_1samp([b - a for a, b in zip(middle, lower, strict=True)], 0).confidence_interval(0.95)
    assert measured.startswith(
        f"{mean(middle):.1f} ± {stdev(middle):.1f} against {mean(lower):.1f} ± {stdev(lower):.1f}"
    )
    assert verdict == ("reproduced" if known.low > 0 else "contradicted" if known.high < 0 else "undecided")
    assert seeds == "0–2"


def test_what_has_not_run_is_said_to_be_so(page: str) -> None:
    for experiment in EXPERIMENTS:
        rows = [line for line in page.splitlines() if line.endswith(f"| [{experiment.name}](#{experiment.name}) |")]
        assert rows
        assert f"## {experiment.name}\n" in page
        if experiment.name != "temperature_by_width":
            assert all(line.split("|")[3:6] == [" not run ", " – ", " not run "] for line in rows)
            assert (
                page.split(f"## {experiment.name}\n")[1]
                .split("\n## ")[0]
                .rstrip()
                .splitlines()[-1]
                .startswith("Not run")
            )
    assert row(page, "2 × 800: T = 8 and T = 20 alike")[4] == "not run"


def test_only_what_has_run_has_a_figure(store: Path, page: str) -> None:
    assert page.count("![") == 1
    assert [path.name for path in (store / "docs" / "figures").iterdir()] == ["temperature_by_width.png"]
    assert "![temperature_by_width](figures/temperature_by_width.png)" in page


def test_the_same_results_give_the_same_page(store: Path, page: str) -> None:
    image = store / "docs" / "figures" / "temperature_by_width.png"
    before = image.read_bytes()
    assert paper("--write", f"--output={store / 'outputs'}", f"--page={store / 'docs' / 'paper.md'}").returncode == 0
    assert (store / "docs" / "paper.md").read_text(encoding="utf-8") == page
    assert image.read_bytes() == before


def test_every_command_on_the_page_is_one_that_kd_accepts(page: str, tmp_path: Path) -> None:
    for experiment in EXPERIMENTS:
        for step in experiment.steps:
            assert step.shown("short" if "short" in experiment.minutes else "full") in page.splitlines()
            if step.command[0] == "kd":
                words = [word for word in step.words if not word.startswith("seed=")]  # --cfg shows one job
                root = ["dataset.root=x"] if step.on_mnist else []
                done = inside(step.command[1], *words, *root, "--cfg", "job", cwd=tmp_path)
                assert done.status == 0, done.err


# --- running


@pytest.fixture(scope="module")
def tiny_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred images in MNIST's format, each lit at a place that its class decides."""
    folder = tmp_path_factory.mktemp("tiny")
    for part, count in (("train", 100), ("t10k", 50)):
        labels = bytes(k % 10 for k in range(count))
        pixels = b"".join(bytes(255 if p // 78 == k % 10 else (p * k) % 90 for p in range(784)) for k in range(count))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 28, 28) + pixels)
    return folder


@pytest.mark.slow
def test_a_failing_experiment_does_not_stop_the_others(
    tiny_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import paper as script
    from experiments.experiment import Experiment, sweep
    from experiments.hinton_mnist import findings

    small = ("student=mlp_30", "teacher.model.widths=[30]", *SHORT, "seed=0,1")
    chosen = [
        Experiment(
            "first", "", (sweep("hinton_mnist", "temperature=-1", *small, name="first"),), {"short": 1}, findings
        ),
        Experiment("second", "", (sweep("hinton_mnist", *small),), {"short": 1}, findings),
    ]
    monkeypatch.setattr(script, "EXPERIMENTS", chosen)
    place = ["paper.py", f"--mnist={tiny_mnist}", f"--output={tmp_path / 'outputs'}", f"--page={tmp_path / 'paper.md'}"]
    monkeypatch.setattr(sys, "argv", place)
    assert script.main() == 1
    told = capfd.readouterr().err
    assert "first failed" in told
    assert told.rstrip().endswith("Failed: first. The same command runs what is missing.")
    assert "second, 2 of 2; the rest takes about 1 minutes." in told
    page = (tmp_path / "paper.md").read_text(encoding="utf-8")
    assert "2 of 2 jobs completed, in " in page
    monkeypatch.setattr(sys, "argv", [*place, "--only=second"])
    monkeypatch.setattr(script, "EXPERIMENTS", chosen[1:])
    assert script.main() == 0
    assert capfd.readouterr().err.count("is complete, and not run again") == 2


def test_an_experiment_that_wants_the_teachers_says_so(tmp_path: Path) -> None:
    done = paper(f"--output={tmp_path}", f"--page={tmp_path / 'paper.md'}", "--only=regularisers")
    assert done.returncode == 1
    assert "teachers_mnist must have run before: its teacher is wanted." in done.stderr.splitlines()
    assert done.stderr.splitlines()[-1] == "Failed: regularisers. The same command runs what is missing."


@pytest.mark.slow
def test_a_chain_is_taught_by_the_students_of_the_sweep_before(tiny_mnist: Path, tmp_path: Path) -> None:
    place = (f"--mnist={tiny_mnist}", f"--output={tmp_path / 'outputs'}", f"--page={tmp_path / 'docs' / 'paper.md'}")
    done = paper(*place, "--only=assistant_chain")
    assert done.returncode == 0, done.stderr
    sweeps = tmp_path / "outputs" / "sweeps"
    for seed in range(5):
        middle, small = (
            json.loads((sweeps / f"{name}_short" / f"seed-{seed}" / "result.json").read_text())
            for name in ("assistants", "assisted")
        )
        assert small["teacher"]["errors"] == middle["student"]["errors"]
        assert small["teacher"]["params"] == middle["student"]["params"] != middle["teacher"]["params"]
    page = (tmp_path / "docs" / "paper.md").read_text(encoding="utf-8")
    assert row(page, "2 × 30: distilling makes fewer errors than hard labels alone")[3] == "0–4"
