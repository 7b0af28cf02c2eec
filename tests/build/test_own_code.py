"""A person's own modules: what runs, from where, and that it is what the identity holds."""

import json
from pathlib import Path

import pytest
from own_modules import FLAT, choose
from running import TINY, inside, kd

TRAP = "import pathlib\npathlib.Path({folder!r}, 'ran-' + __name__).touch()\n"


FLAT_MLP = """
from kd_cli.models.mlp import mlp


def flat(num_classes, input_shape):
    return mlp(num_classes, input_shape, widths=[8])
"""


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "path=.", "trusted_modules=[nothing_here]"),
        ("predict", "path=.", "images=nowhere.png"),
        ("list",),
        ("distill", "--cfg", "job"),
        ("distill", *TINY, "baseline=false"),
    ],
    ids=" ".join,
)
def test_code_in_the_current_folder_that_nobody_named_does_not_run(
    words: tuple[str, ...], artifact: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    traps = ("hydra_plugins/x.py", "hydra_plugins/__init__.py", "tqdm.py", "pynvml.py", "my_models.py", "kd_cli.py")
    for name in (*traps, "sitecustomize.py", "numpy/__init__.py", "yaml.py", "torch.py"):
        (artifact / name).parent.mkdir(exist_ok=True)
        (artifact / name).write_text(TRAP.format(folder=str(ran)))
    done = kd(*words, cwd=artifact)
    assert "Traceback" not in done.err
    assert done.status == (1 if words[0] == "predict" else 0), done.err
    assert list(ran.iterdir()) == []


def test_a_module_that_i_name_is_found_in_the_current_folder_and_the_log_says_so(tmp_path: Path) -> None:
    (tmp_path / "stood_in.py").write_text("from stood_in_too import flat  # noqa: F401\n")
    (tmp_path / "stood_in_too.py").write_text(FLAT)
    words = choose(tmp_path, "stood_in.flat")
    done = inside("distill", *words, *TINY, "baseline=false", cwd=tmp_path)
    assert done.result["student"]["params"] == 64 * 8 + 8 + 8 * 10 + 10
    assert "code from the current folder: stood_in, stood_in_too\n" in done.err
    assert "code from the current folder: stood_in, stood_in_too\n" in (done.run / "kd.log").read_text()


def test_a_module_that_is_found_elsewhere_is_not_taken_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("elsewhere", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere" / "twice.py").write_text(FLAT)
    (tmp_path / "here" / "twice.py").write_text(TRAP.format(folder=str(tmp_path)))
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    words = choose(tmp_path / "here", "twice.flat")
    done = inside("distill", *words, *TINY, "baseline=false", cwd=tmp_path / "here")
    assert done.status == 0, done.err
    assert "current folder" not in done.err
    assert not (tmp_path / "ran-twice").exists()


def test_trusted_modules_are_found_in_the_current_folder_too(tmp_path: Path) -> None:
    (tmp_path / "trusted_here.py").write_text(FLAT)
    done = inside("distill", *choose(tmp_path, "trusted_here.flat"), *TINY, "baseline=false", cwd=tmp_path)
    words = (f"path={done.run}", "trusted_modules=[trusted_here]", "format=json")
    allowed = inside("evaluate", *words, cwd=tmp_path)
    assert json.loads(allowed.out)["n"] == 599, allowed.err
    assert "code from the current folder: trusted_here\n" in allowed.err
    (tmp_path / "elsewhere").mkdir()
    refused = inside("evaluate", *words, cwd=tmp_path / "elsewhere")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.endswith(
        "config.yaml names 'trusted_here.flat', which is neither installed nor here. Start kd in the folder of its "
        "file, or name that folder in PYTHONPATH.\n"
    )


def test_a_data_set_of_my_own_is_evaluated_where_i_trust_its_module(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "own_data_here.py").write_text("from kd_cli.datasets.digits import digits as mine  # noqa: F401\n")
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "mine.yaml").write_text("_target_: own_data_here.mine\n")
    words = ("evaluate", "--config-dir", "mine", f"path={artifact}", "dataset=mine")
    refused = inside(*words, cwd=tmp_path)
    assert (refused.status, refused.out, "Traceback" in refused.err) == (1, "", False)
    assert refused.err.splitlines()[-1].startswith("dataset cannot be built: ")
    assert refused.err.endswith("or with 'trusted_modules=[own_data_here]'.\n")
    assert inside(*words, "trusted_modules=[own_data_here]", cwd=tmp_path).status == 0


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "population", "joblib"])
def test_every_launcher_finds_my_modules(launcher: str, tmp_path: Path) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "my_models.py").write_text("import my_layers\n\nflat = my_layers.flat\n")
    (tmp_path / "my_layers.py").write_text(FLAT_MLP)
    words = (*choose(tmp_path, "my_models.flat"), *TINY, "baseline=false", "seed=0,1", f"hydra/launcher={launcher}")
    done = kd("sweep", *words, cwd=tmp_path)
    assert done.status == 0, done.err
    assert len(list(done.run.glob("*/result.json"))) == 2
    again = kd("sweep", *words, cwd=tmp_path)
    assert again.err.count("is complete, and not run again") == 2
    (tmp_path / "my_layers.py").write_text(FLAT_MLP.replace("[8]", "[9]"))
    changed = kd("sweep", *words, cwd=tmp_path)
    assert (changed.status, changed.err.count("is complete")) == (0, 0)
    assert len(list((tmp_path / "outputs" / "students").iterdir())) == 4
