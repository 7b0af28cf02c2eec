"""`kd evaluate` of a run: on the data that the run judged on, wherever they lie now, and said where they differ."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import Outcome, inside

SMALL = ("dataset=image_folder", "dataset.size=8", "dataset.channels=1", "dataset.workers=0", "baseline=false",
         "teacher=cnn_digits", "student=mlp_64",
         "teacher.train.epochs=2", "student.train.epochs=1")  # fmt: skip


def folder_of(root: Path, test_images: int) -> None:
    """Two classes, 6 training images each; the training images are the same in every such folder."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", test_images)):
        for name in "ab":
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Two jobs that differ in their test images alone."""
    folder = tmp_path_factory.mktemp("evaluated")
    folder_of(folder / "one", 3)
    folder_of(folder / "two", 5)
    done = inside("sweep", *SMALL, "dataset.root=one,two", cwd=folder)
    assert done.status == 0, done.err
    return folder, done


def jobs(done: Outcome) -> dict[str, Path]:
    return {path.parent.name[-3:]: path.parent for path in done.run.glob("*/result.json")}


def evaluated(path: Path, *words: str, cwd: Path) -> dict[str, object]:
    done = inside("evaluate", f"path={path}", "format=json", *words, cwd=cwd)
    assert done.status == 0, done.err
    return {**json.loads(done.out), "err": done.err}


def test_jobs_that_share_a_student_are_each_judged_on_their_own_test_images(swept: tuple[Path, Outcome]) -> None:
    folder, done = swept
    results = {name: json.loads((path / "result.json").read_text()) for name, path in jobs(done).items()}
    assert len({result["student"]["artifact"] for result in results.values()}) == 1
    for name, n in (("one", 6), ("two", 10)):
        figures = evaluated(jobs(done)[name], cwd=folder)
        expected = results[name]["student"]
        assert (figures["n"], figures["errors"], figures["err"]) == (n, expected["errors"], "")
        assert figures["dataset_fingerprint"] == results[name]["environment"]["dataset_fingerprint"]


def test_the_table_of_a_sweep_has_both(swept: tuple[Path, Outcome]) -> None:
    summary = json.loads((swept[1].run / "summary.json").read_text())
    assert [job["dataset.root"] for job in summary["jobs"]] == ["one", "two"]
    assert summary["settings"] == ["dataset.root"]
    assert len(summary["groups"]) == 2


def test_data_that_were_moved_are_found_by_one_key(swept: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder, done = swept
    shutil.copytree(folder, tmp_path / "all")
    (tmp_path / "all" / "two").rename(tmp_path / "elsewhere")
    job = tmp_path / "all" / jobs(done)["two"].relative_to(folder)
    content = json.loads((job / "result.json").read_text())
    content["data"]["root"] = str(tmp_path / "all" / "two")  # as it would say there
    (job / "result.json").write_text(json.dumps(content))
    lost = inside("evaluate", f"path={job}", cwd=tmp_path)
    assert lost.status == 1
    assert lost.err.startswith("dataset.root must be ")
    found = evaluated(job, "dataset.root=elsewhere", cwd=tmp_path)
    assert (found["n"], found["err"]) == (10, "")
    assert evaluated(job, "dataset.root=elsewhere", "dataset.workers=1", cwd=tmp_path)["n"] == 10


def test_other_data_than_the_runs_are_said_to_be_others(swept: tuple[Path, Outcome]) -> None:
    folder, done = swept
    job = jobs(done)["two"]
    figures = evaluated(job, "dataset.root=one", cwd=folder)
    said = f"These are not the data of {job}: images, labels or splits differ.\n"
    assert (figures["n"], figures["err"]) == (6, said)
    assert evaluated(job, "dataset.validation=0.5", cwd=folder)["err"] == said


@pytest.mark.parametrize(
    "word", ["dataset.rot=x", "dataset.size=16", "dataset.root=nowhere", "dataset._target_=os.system"]
)
def test_a_key_that_does_not_fit_is_refused_in_one_message(word: str, swept: tuple[Path, Outcome]) -> None:
    folder, done = swept
    refused = inside("evaluate", f"path={jobs(done)['one']}", word, cwd=folder)
    assert (refused.status, refused.out) == (1, "")
    assert "Traceback" not in refused.err
    assert len(refused.err.splitlines()) == 1


DEEP: dict[str, object] = {}
for _ in range(400):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    "data", [3, [], {"_target_": "os.system", "command": "touch OWNED"}, {"root": "${oc.env:HOME}"}, {"a": DEEP},
             {"_target_": "kd_cli.datasets.digits.digits", "size": {"_target_": "os.system", "command": "touch OWNED"}}]
)  # fmt: skip
def test_the_data_that_a_strangers_run_names_stay_data(data: object, swept: tuple[Path, Outcome]) -> None:
    folder, done = swept
    strange = folder / "outputs" / "runs" / "strange"
    strange.mkdir(parents=True)
    try:
        content = json.loads((jobs(done)["one"] / "result.json").read_text())
        (strange / "result.json").write_text(json.dumps({**content, "data": data}))
        refused = inside("evaluate", f"path={strange}", cwd=folder)
        assert (refused.status, refused.out) == (1, "")
        assert "Traceback" not in refused.err
        assert not (folder / "OWNED").exists()
    finally:
        shutil.rmtree(strange)
