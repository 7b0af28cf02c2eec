"""Members of every kind: stored, online, in a chain, and in every spelling."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ensembles import MEMBER, SHORT, made
from running import Outcome, inside
from safetensors.torch import load_file

from kd_cli.cli import spelling
from kd_cli.models.mlp import mlp
from kd_cli.teachers.combination import Combination
from kd_cli.teachers.ensemble import Members

FIRST = ("model@teacher.members.0.model=mlp_30", "teacher.members.0.train.epochs=1")


def test_unlike_and_stored_members(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    result = first[1].result
    student = f"outputs/{result['student']['artifact']}"
    words = ("teacher=ensemble", f"teacher.members=[cnn_digits,{student}]", *FIRST, *SHORT)
    done = inside("distill", *words, cwd=tmp_path).result
    assert done["stages"]["teacher_0"]["artifact"] == result["stages"]["teacher_0"]["artifact"]
    assert made(done) == {"soft_targets_1", "student"}
    assert done["stages"]["teacher_1"]["artifact"] == result["student"]["artifact"], "which was there"
    assert [member["errors"] for member in done["teacher"]["members"]] == [
        result["teacher"]["members"][0]["errors"],
        result["student"]["errors"],
    ]
    assert done["teacher"]["members"][1]["artifact"] == result["student"]["artifact"]
    assert made(inside("distill", *words, cwd=tmp_path).result) == set()


def test_members_named_in_a_yaml(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")
    (tmp_path / "mine" / "teacher").mkdir(parents=True)
    (tmp_path / "mine" / "teacher" / "pair.yaml").write_text(
        "defaults:\n  - /teacher@members.one: cnn_digits\n  - /teacher@members.two: cnn_digits\n  - ensemble\n"
        "  - override /model@members.one.model: mlp_30\n  - override /model@members.two.model: mlp_30\n  - _self_\n"
        "members: {one: {train: {epochs: 1}}, two: {seed: 1, train: {epochs: 1}}}\n"
    )
    words = ("--config-dir", "mine", "teacher=pair", *SHORT)
    result = inside("distill", *words, cwd=tmp_path).result
    assert made(result) == set(), "the same members, whatever they are called"
    assert {"teacher_one", "soft_targets_two"} <= set(result["stages"])


def test_an_online_ensemble_stores_nothing_and_teaches_what_its_stored_logits_do(
    again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    words = ("precision=32", "teacher.weights=[1,9]")
    stored, online, otherwise = again(*words), again(*words, "teacher.online=true"), again("precision=32")
    assert made(online) == {"student"}
    assert not any(name.startswith("soft_targets") for name in online["stages"])
    stored, online, otherwise = (
        torch.cat([value.flatten() for value in load_file(weights).values()])
        for weights in (
            tmp_path / "outputs" / result["student"]["artifact"] / "model.safetensors"
            for result in (stored, online, otherwise)
        )
    )
    # up to float16, far nearer than other weights bring it
    assert (stored - online).norm() < 0.1 * (stored - otherwise).norm()
    assert made(again(*words, "teacher.online=true", "temperature=2")) == {"student"}


def test_an_online_ensemble_is_combined_at_the_runs_temperature(
    again: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    words = ("precision=32", "targets.dtype=float32", "hard_weight=0", "temperature=20", "teacher.weights=[1,9]")
    stored, online = (
        torch.cat([value.flatten() for value in load_file(tmp_path / "outputs" / name / "model.safetensors").values()])
        for name in (again(*words, f"teacher.online={each}")["student"]["artifact"] for each in ("false", "true"))
    )
    torch.testing.assert_close(online, stored, rtol=0, atol=1e-4)


def test_few_logits_serve_an_ensemble(again: Callable[..., dict[str, Any]]) -> None:
    words = ("targets.top_k=3", "targets.temperatures=[2,4]")
    assert {"soft_targets_0", "soft_targets_1"} <= made(again(*words))
    assert made(again(*words, "temperature=2")) == {"student"}


def test_members_give_what_their_combination_gives() -> None:
    networks = [mlp(4, (1, 3, 3), widths=[5]).eval() for _ in range(3)]
    images, rule = torch.rand(6, 1, 3, 3), Combination("arithmetic", (0.2, 0.3, 0.5))
    with torch.inference_mode():
        expected = rule([network(images) for network in networks], 2.5)
        torch.testing.assert_close(Members(networks, rule, 2.5)(images), expected, rtol=0, atol=0)


# A chain: large → middle → small.


def test_a_chain_of_teachers(tmp_path: Path) -> None:
    short = ("model@student.model=mlp_30", *SHORT)
    teacher = ("model@teacher.model=mlp_64", "teacher.train.epochs=1")
    large = inside("distill", *teacher, *short, cwd=tmp_path)
    middle = f"outputs/{large.result['student']['artifact']}"
    by_run, by_folder = (
        inside("distill", "teacher=artifact", f"teacher.path={path}", "student.model.widths=[8]", *short, cwd=tmp_path)
        for path in (large.run, middle)
    )
    assert by_run.result["teacher"]["errors"] == large.result["student"]["errors"]
    assert by_folder.result["stages"]["student"]["cached"], "the identity rests on the weights, not on their place"
    assert by_folder.result["student"]["artifact"] == by_run.result["student"]["artifact"]
    other = inside("distill", *teacher, "seed=1", *short, cwd=tmp_path)
    after = inside(
        "distill", "teacher=artifact", f"teacher.path={other.run}", "student.model.widths=[8]", *short, cwd=tmp_path
    )
    assert made(after.result) == {"soft_targets", "student"}, "other weights, another student"
    end = inside(
        "distill", "teacher=artifact", f"teacher.path={by_run.run}", "student.model.widths=[4]", *short, cwd=tmp_path
    )
    assert end.result["teacher"]["params"] == by_run.result["student"]["params"]


# What is typed.


@pytest.mark.parametrize(
    ("word", "spelt"),
    [
        ("teacher.member=mlp_1200", ["teacher@teacher.member=mlp_1200"]),
        ("teacher.member=cnn,mlp_1200", ["teacher@teacher.member=cnn,mlp_1200"]),
        ("teacher.member.train.epochs=3", ["teacher.member.train.epochs=3"]),
        ("teacher.members=[cnn]", ["+teacher@teacher.members.0=cnn"]),
        (
            "teacher.members=[mlp_1200, 'a folder/x',./y]",
            [
                "+teacher@teacher.members.0=mlp_1200",
                "+teacher@teacher.members.1=artifact",
                "teacher.members.1.path='a folder/x'",
                "+teacher@teacher.members.2=artifact",
                "teacher.members.2.path='./y'",
            ],
        ),
        ("teacher.members=[]", ["teacher.members=[]"]),
        ("teacher.members=[[a]]", ["teacher.members=[[a]]"]),
        ("teacher.members=[cnn],[mlp_1200]", ["teacher.members=[cnn],[mlp_1200]"]),
        ("teacher=ensemble", ["teacher=ensemble"]),
        ("teacher.members.0.seed=1", ["teacher.members.0.seed=1"]),
    ],
)
def test_teachers_within_a_teacher_in_hydras_spelling(word: str, spelt: list[str]) -> None:
    assert spelling.spelt(word) == spelt


def test_cfg_job_and_completion_take_the_short_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("teacher=ensemble", "teacher.member=mlp_1200", "teacher.members=[cnn,outputs/x]")
    printed = inside("distill", *words, "teacher.members.0.seed=3", "--cfg", "job", cwd=tmp_path).out
    assert "max_norm: 2.0" in printed
    assert "path: outputs/x" in printed
    assert "seed: 3" in printed
    monkeypatch.setenv("COMP_LINE", "kd distill teacher=ens")
    monkeypatch.setenv("COMP_POINT", "22")
    assert inside("-sc", "query=bash", cwd=tmp_path).out.split() == ["teacher=ensemble"]


def test_a_sweep_over_members(tmp_path: Path) -> None:
    words = ("teacher=ensemble", "teacher.size=1", "teacher.member=cnn_digits,mlp_1200", *MEMBER, *SHORT)
    done = inside("sweep", *words, cwd=tmp_path)
    assert done.status == 0, done.err
    summary = json.loads((done.run / "summary.json").read_text())
    assert summary["settings"] == ["teacher.member"]
    assert [job["teacher.member"] for job in summary["jobs"]] == ["cnn_digits", "mlp_1200"]
    assert len({job["student_artifact"] for job in summary["jobs"]}) == 2
