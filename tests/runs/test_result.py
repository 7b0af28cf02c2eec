"""The result of a run as one type: every kind of run's result.json is read and written as it is, others are refused."""

import copy
import json
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import KD, TINY, environment, inside

from kd_cli.errors import ArtifactError
from kd_cli.runs.result import ROLES, Result

QUICK = ("teacher.train.epochs=1", "student.train.epochs=1")
ENSEMBLE = ("teacher=ensemble", "teacher.size=2", "model@teacher.member.model=mlp_30", "teacher.member.train.epochs=1")
SPECIALISTS = (
    "teacher=specialists", "dataset=confusable", "dataset.groups=3", "dataset.classes_each=4",
    "model@teacher.generalist.model=mlp_64", "teacher.generalist.model.widths=[8]", "teacher.generalist.train.epochs=1",
    "teacher.train.epochs=1",
)  # fmt: skip
KINDS = {
    "distilled": ("distill", *QUICK),
    "without a baseline": (
        "distill",
        *QUICK,
        "baseline=false",
        "transfer.labels=none",
        "soft_weight=1",
        "hard_weight=0",
    ),
    "corrected": ("distill", *QUICK, "transfer.omit_classes=[3]", "bias_correction=prior"),
    "an ensemble": ("train-teacher", *ENSEMBLE),
    "specialists": ("train-teacher", *SPECIALISTS),
    "dumped": ("dump-targets", QUICK[0]),
    "elsewhere": ("train-teacher", QUICK[0], "hydra.run.dir=elsewhere"),
}


def begin(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """A run that goes on for ever, and its result.json."""
    command, pipe = [str(KD), "train-teacher", "teacher.train.epochs=100000"], subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=pipe, stderr=pipe, text=True)
    while not (found := list(folder.glob("outputs/teachers/.*/history.jsonl"))) or not found[0].stat().st_size:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    (path,) = folder.glob("outputs/runs/*/result.json")
    return process, path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each kind of run left in its result.json."""
    folder = tmp_path_factory.mktemp("results")
    results = {name: inside(*words, cwd=folder).result for name, words in KINDS.items() if name != "elsewhere"}
    assert inside(*KINDS["elsewhere"], cwd=folder).status == 0
    results["elsewhere"] = json.loads((folder / "elsewhere" / "result.json").read_text())
    for name, stop in (("interrupted", signal.SIGINT), ("killed", signal.SIGKILL)):
        process, path = begin(tmp_path_factory.mktemp(name))
        process.send_signal(stop)
        process.communicate()
        results[name] = json.loads(path.read_text())
    failed = tmp_path_factory.mktemp("failed")
    assert inside("distill", *TINY, "teacher.train.optimizer.lr=1e9", cwd=failed).status == 1
    results["failed"] = json.loads(next(failed.glob("outputs/runs/*/result.json")).read_text())
    return results


@pytest.mark.parametrize("kind", [*KINDS, "interrupted", "killed", "failed"])
def test_every_kind_of_result_is_read_and_written_as_it_is(kind: str, found: dict[str, Any]) -> None:
    content = found[kind]
    assert Result.of(content).to_json() == content
    assert next(iter(content)) == "format"


def test_what_is_read_has_its_types(found: dict[str, Any]) -> None:
    result = Result.of(found["corrected"])
    assert list(result.figures) == list(ROLES)
    assert result.corrected is not None
    assert result.student is not None
    assert (result.corrected.rule, result.corrected.selected_on) == ("prior", "train")
    assert result.student.per_class["3"].n == found["corrected"]["student"]["per_class"]["3"]["n"]
    assert result.named_classes == ["3"]
    assert result.stages["student"].artifact == result.student.artifact
    assert result.environment is not None
    assert result.environment.threads == 1
    ensemble = Result.of(found["an ensemble"]).teacher
    assert ensemble is not None
    assert ensemble.artifact is None
    assert [member.n for member in ensemble.members or ()] == [599, 599]
    specialists = Result.of(found["specialists"]).teacher
    assert specialists is not None
    assert specialists.generalist is not None
    assert specialists.covering is not None
    assert sum(row.generalist_errors for row in specialists.covering) == specialists.generalist.errors
    assert Result.of(found["dumped"]).figures == {}
    assert [Result.of(found[kind]).status for kind in ("failed", "interrupted", "killed")] == [
        "failed", "interrupted", "interrupted"
    ]  # fmt: skip
    assert (Result.of(found["interrupted"]).error, Result.of(found["killed"]).error) == ("interrupted by Ctrl-C", None)
    assert Result.of(found["elsewhere"]).output_dir is not None


def test_what_a_run_with_a_student_could_not_tell_is_null(found: dict[str, Any]) -> None:
    content = found["without a baseline"]
    assert (content["gap_recovered"], content["gap_reason"]) == (None, "no baseline was trained")
    assert (content["note"], content["student"]["train_accuracy"]) == (None, None)
    assert found["an ensemble"]["teacher"]["artifact"] is None


# --- what is no result

PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
ANY = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def refused_or_read(content: Any) -> None:
    with suppress(ArtifactError):
        written = Result.of(content).to_json()
        assert repr(Result.of(written).to_json()) == repr(written)  # NaN is not equal to itself


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["format", "status", "student", "stages", "x"]), ANY))
def test_any_mapping_is_refused_or_read(content: dict[str, Any]) -> None:
    refused_or_read(content)
    refused_or_read(content | {"format": 1})


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=300)
@given(data=st.data())
def test_a_result_with_anything_in_one_place_is_refused_or_read(data: st.DataObject, found: dict[str, Any]) -> None:
    content = copy.deepcopy(found[data.draw(st.sampled_from(sorted(found)))])
    node: Any = content
    while True:
        key = data.draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.sampled_from(range(len(node))))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        node = inner
    if isinstance(node, dict) and data.draw(st.booleans()):
        del node[key]
    else:
        node[key] = data.draw(ANY)
    refused_or_read(content)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("status",), "done", "status must be one of completed, failed, interrupted, got 'done'"),
        (("student", "errors"), -1, "student.errors must be a whole number from 0 to 9007199254740992, got -1"),
        (("student", "per_class", "3"), 4, "student.per_class.3 must be a mapping, got 4"),
        (("stages", "student", "cached"), 1, "stages.student.cached must be true or false, got 1"),
        (("environment", "threads"), "2", "environment.threads must be a whole number from 0 to 9007199254740992, "
                                          "got '2'"),
        (("overrides",), [1], "overrides.0 must be text, got 1"),
        (("seed",), {"a": 1}, "seed must be a plain value, got {'a': 1}"),
        (("data",), [], "data must be a mapping, got []"),
    ],
)  # fmt: skip
def test_a_damaged_field_is_named(path: tuple[str, ...], value: Any, said: str, found: dict[str, Any]) -> None:
    content = copy.deepcopy(found["distilled"])
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(ArtifactError) as refused:
        Result.of(content, "runs/a/result.json")
    assert str(refused.value) == f"runs/a/result.json is no result of kd: {said}."


@pytest.mark.parametrize(
    "missing", ["status", "command", "overrides", "student.errors", "student.artifact", "stages.student.seconds"]
)
def test_a_missing_field_is_named(missing: str, found: dict[str, Any]) -> None:
    content = copy.deepcopy(found["distilled"])
    *where, last = missing.split(".")
    node = content
    for key in where:
        node = node[key]
    del node[last]
    with pytest.raises(ArtifactError, match=rf"^result\.json is no result of kd: it has no {missing}\.$"):
        Result.of(content)


def test_a_field_that_a_later_kd_adds_is_ignored(found: dict[str, Any]) -> None:
    content = found["distilled"]
    added = {**content, "weather": "fair", "student": {**content["student"], "energy": 3}}
    assert Result.of(added) == Result.of(content)


@pytest.mark.parametrize("value", [True, 0, -1, "1", None, 1.0, [1]])
def test_a_format_that_is_none_is_damage(value: Any, found: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"^result\.json is damaged: its format must be 1, got "):
        Result.of({**found["distilled"], "format": value})
