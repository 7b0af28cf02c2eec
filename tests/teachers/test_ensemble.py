"""`teacher=ensemble` end to end on the digits: what is shared, what is made anew, what it is judged by."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from ensembles import SHORT, TEACHER, WORDS, made
from running import Outcome, files_below, inside, seal

from kd_cli.datasets.digits import digits
from kd_cli.store.models import load


def test_each_member_and_its_logits_are_those_of_the_same_teacher_alone(
    again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    members = again()["stages"]
    alone = ("model@teacher.model=mlp_30", "teacher.train.epochs=1", *SHORT)
    for seed in (0, 1):
        result = inside("distill", f"teacher.seed={seed}", *alone, cwd=tmp_path).result
        for stage in ("teacher", "soft_targets"):
            assert result["stages"][stage]["cached"]
            assert result["stages"][stage]["artifact"] == members[f"{stage}_{seed}"]["artifact"]


@pytest.mark.parametrize(
    ("words", "anew"),
    [
        ((), set()),
        (("teacher.weights=[3,3]",), set()),
        (("teacher.weights=[1,3]",), {"student"}),
        (("teacher.combine=geometric",), {"student"}),
        (("temperature=2",), {"student"}),
        (("teacher.size=1",), {"student"}),
        (("teacher.weights=[1,0]",), {"student"}),
        (("teacher.size=3",), {"student", "teacher_2", "soft_targets_2"}),
        (("teacher.seed=1",), {"student", "teacher_2", "soft_targets_2"}),
        (
            ("teacher.member.train.batch_size=32",),
            {"student", "teacher_0", "teacher_1", "soft_targets_0", "soft_targets_1"},
        ),
    ],
)
def test_what_is_made_anew(words: tuple[str, ...], anew: set[str], again: Callable[..., dict[str, Any]]) -> None:
    assert made(again(*words)) == anew


def test_a_student_of_logits_alone_is_the_same_at_every_temperature_with_the_geometric_mean_only(
    again: Callable[..., dict[str, Any]],
) -> None:
    words = ("objective=logit_matching",)
    for rule, anew in (("geometric", set()), ("arithmetic", {"student"})):
        again(*words, f"teacher.combine={rule}")
        assert made(again(*words, f"teacher.combine={rule}", "temperature=9")) == anew


def test_a_weight_of_zero_and_a_smaller_size_are_the_same_teacher(again: Callable[..., dict[str, Any]]) -> None:
    smaller, without = again("teacher.size=1"), again("teacher.weights=[5,0]")
    assert smaller["student"]["artifact"] == without["student"]["artifact"]
    assert smaller["teacher"]["params"] == without["teacher"]["params"]


# What is said of it.


def test_the_figures_are_those_of_the_ensemble_and_of_each_member(first: tuple[Path, Outcome]) -> None:
    folder, result = first[0], first[1].result
    teacher, test = result["teacher"], digits().test
    images = next(test.samples.stream([torch.arange(len(test))], torch.device("cpu"))).float() / 255
    probabilities = []
    assert teacher["artifact"] is None
    assert [member["artifact"] for member in teacher["members"]] == [
        result["stages"][f"teacher_{k}"]["artifact"] for k in (0, 1)
    ]
    for member in teacher["members"]:
        assert set(member) == {"artifact", "errors", "n", "accuracy", "nll", "ece"}
        with torch.inference_mode():
            probabilities.append(load(folder / "outputs" / member["artifact"]).model(images).softmax(1))
        wrong = int((probabilities[-1].argmax(1) != test.labels).sum())
        assert (member["errors"], member["n"]) == (wrong, 599)
    combined = sum(probabilities) / 2
    assert teacher["errors"] == int((combined.argmax(1) != test.labels).sum())
    assert teacher["nll"] == pytest.approx(-combined[range(599), test.labels].log().mean().item(), rel=1e-4)
    assert teacher["params"] == 2 * (65 * 30 + 31 * 30 + 31 * 10)


def test_the_table_has_a_column_for_the_single_member(first: tuple[Path, Outcome]) -> None:
    lines = first[1].err.splitlines()
    assert any(line.replace("┃", " ").split() == ["member", "teacher", "student"] for line in lines)
    errors = [member["errors"] for member in first[1].result["teacher"]["members"]]
    spread = abs(errors[0] - errors[1]) / 2**0.5
    assert f"{mean(errors):.1f} ± {spread:.1f}" in first[1].err


def test_train_teacher_and_dump_targets_obtain_every_member(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    run = inside("train-teacher", *TEACHER, cwd=tmp_path)
    trained = run.result
    assert made(trained) == set()
    assert trained["teacher"]["errors"] == first[1].result["teacher"]["errors"]
    assert trained["teacher"]["members"] == first[1].result["teacher"]["members"]
    dumped = inside("dump-targets", *TEACHER, cwd=tmp_path).result
    assert made(dumped) == set()
    assert {"soft_targets_0", "soft_targets_1"} <= set(dumped["stages"])
    refused = inside("evaluate", f"path={run.run}", cwd=tmp_path)
    assert (refused.status, "whose result.json names no model" in refused.err) == (1, True)


def test_a_sweep_has_the_mean_of_the_members(tmp_path: Path, first: tuple[Path, Outcome]) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    done = inside("sweep", *WORDS, "teacher.combine=arithmetic,geometric", cwd=tmp_path)
    assert done.status == 0, done.err
    jobs = json.loads((done.run / "summary.json").read_text())["jobs"]
    assert [job["job"] for job in jobs] == ["teacher.combine-arithmetic", "teacher.combine-geometric"]
    expected = mean(member["errors"] for member in first[1].result["teacher"]["members"])
    assert [job["member_errors"] for job in jobs] == [expected, expected]


def test_nothing_that_an_ensemble_uses_is_cleaned_away(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    before = files_below(tmp_path / "outputs")
    assert inside("clean", "yes=true", cwd=tmp_path).err == "Nothing to remove in outputs.\n"
    assert files_below(tmp_path / "outputs") == before
    # a student alone keeps its targets, and they their teachers
    result = first[1].result
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    (run / "result.json").write_text(json.dumps({"student": {"artifact": result["student"]["artifact"]}}))
    inside("clean", "yes=true", cwd=tmp_path)
    left = {row["artifact"]: row["users"] for row in json.loads(inside("list", "format=json", cwd=tmp_path).out)}
    kept = {name: stage["artifact"] for name, stage in result["stages"].items()}
    assert set(left) == set(kept.values())
    assert left[kept["soft_targets_1"]] == [kept["student"]]
    # a run alone keeps the members that its figures name
    (run / "result.json").write_text(json.dumps({"teacher": result["teacher"]}))
    inside("clean", "yes=true", cwd=tmp_path)
    left = {row["artifact"] for row in json.loads(inside("list", "format=json", cwd=tmp_path).out)}
    assert left == {member["artifact"] for member in result["teacher"]["members"]}


@pytest.mark.parametrize("targets", [{"members": 3}, {"members": [3, {"stored": None}]}, {"members": None}, [1]])
def test_a_manifest_that_says_nonsense_of_members_is_listed(
    targets: Any, first: tuple[Path, Outcome], tmp_path: Path
) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    folder = tmp_path / "outputs" / first[1].result["student"]["artifact"]
    manifest = json.loads((folder / "manifest.json").read_text())
    seal(folder, manifest | {"identity": manifest["identity"] | {"targets": targets}})
    done = inside("list", "format=json", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert first[1].result["student"]["artifact"] in [row["artifact"] for row in json.loads(done.out)]
