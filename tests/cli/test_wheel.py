"""The wheel, built and run without the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from running import TINY, environment

CHECKOUT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (CHECKOUT / "pyproject.toml").is_file():
        pytest.skip("there is no checkout to build from")
    folder = tmp_path_factory.mktemp("wheel")
    isolated = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(folder)]
    done = subprocess.run([*isolated, str(CHECKOUT)], capture_output=True, text=True, cwd=folder)
    if done.returncode:  # without a network pip cannot fetch the build backend
        done = subprocess.run(
            [*isolated, "--no-build-isolation", str(CHECKOUT)], capture_output=True, text=True, cwd=folder
        )
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip("neither a network nor hatchling: the wheel cannot be built here")
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment with the wheel; its dependencies are borrowed from this one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    programs = folder / "bin"
    site = subprocess.run(
        [programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--no-deps", "--quiet", wheel],
        check=True,
    )
    # After the wheel's own files: whatever the borrowed folder says of kd_cli comes too late. As a plain path, its
    # .pth files (the one of an editable install among them) are not read.
    Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def test_the_wheel_holds_the_configs_and_neither_tests_nor_benchmarks(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name.removeprefix("kd_cli/configs/") for name in names if name.startswith("kd_cli/configs/")}
    ours = {path.relative_to(CHECKOUT / "configs").as_posix() for path in (CHECKOUT / "configs").rglob("*.yaml")}
    assert packaged == ours
    sources = {
        path.relative_to(CHECKOUT).as_posix()
        for name in ("kd_cli", "hydra_plugins")
        for path in (CHECKOUT / name).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == sources
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"kd_cli", "hydra_plugins"}
    assert any(name.endswith("LICENSE") for name in names)


def test_kd_runs_from_the_wheel_in_another_folder(installed: Path, tmp_path: Path) -> None:
    variables = {name: value for name, value in environment().items() if name != "PYTHONPATH"}

    def call(*words: str) -> str:
        done = subprocess.run([*words], cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = call(str(installed / "python"), "-c", "import kd_cli; print(kd_cli.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent), "not the checkout's"
    kd = str(installed / "kd")
    assert "distill" in call(kd, "--help")
    run = Path(call(kd, "distill", *TINY).rstrip("\n"))
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "completed"
    assert (tmp_path / "outputs" / result["student"]["artifact"] / "model.safetensors").is_file()
    assert json.loads(call(kd, "evaluate", f"path={run}", "format=json"))["errors"] == result["student"]["errors"]
