"""`kd clean`: what may go."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from listed import listed, remaining
from running import KD, TINY, Outcome, environment, files_below, inside

from kd_cli.commands import clean
from kd_cli.store import inventory


def test_nothing_that_a_run_refers_to_is_removed(here: Path) -> None:
    before = files_below(here)
    done = inside("clean", "yes=true", cwd=here)
    assert (done.status, done.err) == (0, "Nothing to remove in outputs.\n")
    assert files_below(here) == before


def spoil(here: Path, made: Outcome) -> tuple[list[str], list[str]]:
    """A student that keeps what it was made from; a baseline that nothing names; leftovers: what goes, what stays."""
    outputs, result = here / "outputs", made.result
    student, baseline = (result[role]["artifact"] for role in ("student", "baseline"))
    (run,) = (outputs / "runs").iterdir()
    (run / "result.json").write_text(json.dumps({"status": "failed", "stages": {"student": {"artifact": student}}}))
    leftovers = [
        "teachers/.0123456789abcdef.partial",
        "students/0123456789abcdef.damaged-1",
        "teachers/fedcba9876543210",
    ]
    for name in leftovers:
        (outputs / name).mkdir()
        (outputs / name / "checkpoint.json").write_text("{}")
    return [baseline, *leftovers], [
        result["teacher"]["artifact"],
        result["stages"]["soft_targets"]["artifact"],
        student,
    ]


def test_what_nothing_refers_to_is_shown_first_and_removed_with_yes(made: Outcome, here: Path) -> None:
    goes, stays = spoil(here, made)
    before = files_below(here)
    shown = inside("clean", cwd=here)
    assert shown.status == 0
    assert f"{len(goes)} artifacts in outputs" in shown.out
    assert re.match(r"kd clean output_dir=\S+ yes=true removes them: ", shown.err)
    assert [path for path in files_below(here) if ".locks" not in path] == [p for p in before if ".locks" not in p]
    done = inside("clean", "yes=true", cwd=here)
    assert done.err.startswith(f"Removed {len(goes)} folders: ")
    assert sorted(listed(here)) == sorted(stays)
    assert all((here / "outputs" / name / "manifest.json").is_file() for name in stays)


def test_links_are_not_followed(here: Path, made: Outcome, tmp_path: Path) -> None:
    goes, _ = spoil(here, made)
    outside = tmp_path / "outside"
    shutil.copytree(here / "outputs" / goes[0], outside)
    kept = files_below(outside)
    (here / "outputs" / "students" / "1111111111111111").symlink_to(outside)
    (here / "outputs" / goes[1] / "link").symlink_to(outside)
    assert inside("clean", "yes=true", cwd=here).status == 0
    assert files_below(outside) == kept
    assert (here / "outputs" / "students" / "1111111111111111").is_symlink()
    assert not (here / "outputs" / goes[1]).exists()


def test_what_is_being_made_is_kept(here: Path, made: Outcome) -> None:
    goes, _ = spoil(here, made)
    with FileLock(here / "outputs" / ".locks" / "teachers-0123456789abcdef.lock"):
        done = inside("clean", "yes=true", cwd=here)
    assert (done.status, done.err.splitlines()[-1]) == (0, f"{goes[1]} is being made by another process: kept.")
    assert (here / "outputs" / goes[1] / "checkpoint.json").is_file()
    assert set(goes) & set(listed(here)) == {goes[1]}


def test_what_is_not_kds_is_not_touched(here: Path, made: Outcome) -> None:
    """With `output_dir=.` the folders of others lie beside kd's."""
    outputs = here / "outputs"
    kept = ["students/anna/thesis.tex", "teachers/0123456789abcdeg/x", "teachers/backup.partial/x", "students/.git/x",
            "soft_targets/0123456789ABCDEF/x", "students/0123456789abcdef.damaged-1.txt/x"]  # fmt: skip
    for name in kept:
        (outputs / name).parent.mkdir(parents=True)
        (outputs / name).write_text("mine")
    (outputs / "teachers" / "0123456789abcdef").write_text("a file")
    before = files_below(outputs)
    assert inside("clean", "yes=true", "force=true", "output_dir=.", cwd=outputs).err == "Nothing to remove in ..\n"
    assert files_below(outputs) == before
    assert len(listed(here)) == 4


@pytest.mark.parametrize("command", ["train-teacher", "distill"])
def test_a_run_names_an_artifact_before_it_is_stored(command: str, tmp_path: Path) -> None:
    """Else `kd clean` could remove it between storing and naming: here it runs whenever one has been stored."""
    script = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from running import TINY, inside
from kd_cli.store import artifacts
make = artifacts._make
def made_and_cleaned(*asked):
    artifact = make(*asked)
    entries = inventory(Path("outputs"))
    print(artifact.folder.name, [entry.name for entry in entries.unused()], file=sys.__stdout__)
    return artifact
from kd_cli.store.inventory import inventory
artifacts._make = made_and_cleaned
assert inside({command!r}, *TINY[:{1 if command == "train-teacher" else 2}], cwd=Path.cwd()).status == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == (1 if command == "train-teacher" else 4)
    assert all(line.endswith(" []") for line in lines), lines


def test_no_run_begins_to_use_what_is_being_removed(here: Path, made: Outcome) -> None:
    """While somebody cleans, a run waits before it looks for its first artifact."""
    outputs = here / "outputs"
    with inventory.settled(outputs):
        process = subprocess.Popen([str(KD), "train-teacher", TINY[0]], cwd=here, env=environment(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        assert process.stderr is not None
        heard = ""
        while "waiting for it" not in heard:
            heard = process.stderr.readline()
            assert process.poll() is None or heard, "it did not wait"
        assert heard.startswith("artifacts are being looked through by process ")
        teacher = made.result["teacher"]["artifact"]
        shutil.rmtree(outputs / teacher)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "teacher: epoch" in err, "it made anew what was removed"


def test_what_cannot_be_removed_is_named(here: Path, made: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    _, stays = spoil(here, made)

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(clean.shutil, "rmtree", refuse)
    done = inside("clean", "yes=true", cwd=here)
    assert done.status == 1
    assert "Not all could be removed:" in done.err
    assert "Traceback" not in done.err
    assert set(stays) <= remaining(here)
