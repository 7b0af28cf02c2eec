"""A step's result is found or made, never both, and the log says why it is made anew."""

import json
import logging
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from running import TINY, inside, kd

from kd_cli.errors import ArtifactError
from kd_cli.store.artifacts import Store
from kd_cli.store.inventory import inventory
from kd_cli.store.step import difference, name_of, obtain


@dataclass(frozen=True)
class Sum:
    """A step that adds two numbers, and counts how often it was made and loaded."""

    identity: dict[str, Any]
    deps: tuple[str, ...] = ()
    made: list[Path] = field(default_factory=list)
    loaded: list[int] = field(default_factory=list)
    left: list[bool] = field(default_factory=list)
    kind: str = "teachers"
    stage: str = "sum"
    title: str = "a sum"
    largest: int = 1 << 20

    def make(self, folder: Path, ends: ExitStack) -> dict[str, Any]:
        self.made.append(folder)
        ends.callback(lambda: self.left.append((folder.parent / folder.name.split(".")[1]).exists()))
        (folder / "sum.json").write_text(json.dumps(self.identity["a"] + self.identity["b"]))
        return {"how": "by hand"}

    def load(self, artifact: Any) -> None:
        self.loaded.append(json.loads(artifact.file("sum.json").read_text()))


class Refusing(Sum):
    def load(self, artifact: Any) -> None:
        raise ArtifactError("It is of no use.")


class Record:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bool]] = []

    @contextmanager
    def stage(self, name: str) -> Any:
        yield lambda artifact, cached: self.seen.append((name, artifact.folder.name, cached))


ONE = {"stage": "sum", "version": 1, "a": 1, "b": 2}


def test_what_is_not_there_is_made_stored_and_loaded_and_then_found(tmp_path: Path) -> None:
    store, record, first = Store(tmp_path), Record(), Sum(ONE, deps=("students/0123456789abcdef",))
    artifact = obtain(first, store, record)
    again = Sum(ONE)
    assert obtain(again, store, record).folder == artifact.folder == tmp_path / name_of(first)
    assert (len(first.made), first.loaded, len(again.made), again.loaded) == (1, [3], 0, [3])
    assert record.seen == [("sum", artifact.folder.name, False), ("sum", artifact.folder.name, True)]
    about = {key: artifact.manifest[key] for key in ("format", "kind", "identity", "title", "deps", "how")}
    assert about == {"format": 1, "kind": "teachers", "identity": ONE, "title": "a sum",
                     "deps": ["students/0123456789abcdef"], "how": "by hand"}  # fmt: skip


def test_what_a_step_holds_is_let_go_once_its_artifact_stands(tmp_path: Path) -> None:
    step = Sum(ONE)
    obtain(step, Store(tmp_path), Record())
    assert step.left == [True]


def test_the_parts_that_differ_from_the_nearest_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for identity in (ONE, ONE | {"a": 5, "b": 6, "model": {"config": {"width": 8}}}):
        obtain(Sum(identity), store, Record())
    near = Sum(ONE | {"a": 5, "b": 6, "model": {"config": {"width": 16}}})
    said = difference(near, store)
    assert said.endswith(" differs in model.width (8, now 16)")
    assert said.startswith(name_of(Sum(ONE | {"a": 5, "b": 6, "model": {"config": {"width": 8}}})))
    assert difference(Sum(ONE | {"c": 1}), store).endswith(" differs in c (absent, now 1)")
    assert difference(Sum({**ONE, "stage": "product"}), store) == ""
    assert difference(Sum(ONE), Store(tmp_path / "empty")) == ""


def test_a_damaged_one_is_no_neighbour(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = obtain(Sum(ONE), store, Record())
    (artifact.folder / "manifest.json").write_text("{")
    assert difference(Sum(ONE | {"a": 2}), store) == ""


def test_one_whose_content_cannot_serve_is_refused_and_not_made_over_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    obtain(Sum(ONE), store, Record())
    refusing = Refusing(ONE)
    with pytest.raises(ArtifactError, match=r"of no use.*rebuild=true"):
        obtain(refusing, store, Record())
    assert refusing.made == []


def test_a_run_says_why_a_model_is_made_anew(tmp_path: Path) -> None:
    inside("distill", *TINY, cwd=tmp_path)
    done = inside("distill", *TINY, "temperature=2", cwd=tmp_path)
    assert done.status == 0
    line = next(line for line in done.err.splitlines() if line.startswith("student: made anew"))
    assert line.endswith("differs in objective.temperature (4.0, now 2.0)")
    assert "teacher: found in" in done.err
    assert "baseline: found in" in done.err


def test_the_manifests_say_what_each_was_made_from(tmp_path: Path) -> None:
    result = inside("distill", *TINY, cwd=tmp_path).result
    names = {stage: about["artifact"] for stage, about in result["stages"].items()}
    deps = {
        stage: json.loads((tmp_path / "outputs" / name / "manifest.json").read_text())["deps"]
        for stage, name in names.items()
    }
    assert deps == {"teacher": [], "soft_targets": [names["teacher"]], "student": [names["soft_targets"]],
                    "baseline": []}  # fmt: skip
    users = {entry.name: entry.users for entry in inventory(tmp_path / "outputs").entries}
    assert names["soft_targets"] in users[names["teacher"]]
    assert names["student"] in users[names["soft_targets"]]


@pytest.mark.parametrize("words", [("distill",), ("list",), ("clean",), ("train-teacher",), ("sweep", "seed=0,1")])
def test_a_folder_that_an_earlier_kd_wrote_is_refused_by_name(words: tuple[str, ...], tmp_path: Path) -> None:
    from kd_cli.files.digests import sealed

    old = tmp_path / "outputs" / "teachers" / "0123456789abcdef"
    old.mkdir(parents=True)
    (old / "manifest.json").write_text(sealed({"kind": "teachers", "identity": {}, "files": {}}))
    done = kd(*words, cwd=tmp_path)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("output_dir must be a folder of format 1, got ")
    assert "an earlier kd wrote" in done.err
    assert "output_dir=<folder>" in done.err
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["teachers"]


def test_a_model_that_an_earlier_kd_wrote_is_refused_by_its_own_name(tmp_path: Path) -> None:
    from kd_cli.files.digests import sealed

    old = tmp_path / "old" / "students" / "0123456789abcdef"
    old.mkdir(parents=True)
    (old / "manifest.json").write_text(sealed({"kind": "students", "identity": {}, "files": {}}))
    for words in (("evaluate", f"path={old}"), ("distill", "teacher=artifact", f"teacher.path={old}")):
        done = inside(*words, cwd=tmp_path)
        assert done.status == 1
        assert f"{old} was made by an earlier kd" in done.err
        assert "output_dir must" not in done.err


def test_the_log_says_it_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.INFO, "kd"):
        obtain(Sum(ONE), Store(tmp_path), Record())
        obtain(Sum(ONE | {"a": 9}), Store(tmp_path), Record())
    assert [record.getMessage() for record in caplog.records if "made anew" in record.getMessage()] == [
        f"sum: made anew, {name_of(Sum(ONE))} differs in a (1, now 9)"
    ]
