"""teacher=ensemble end to end on the digits: what is shared, what is made anew, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from running import Outcome, files_below, inside, seal
from safetensors.torch import load_file

from kd_cli.cli import spelling
from kd_cli.datasets.digits import digits
from kd_cli.models.mlp import mlp
from kd_cli.store.models import load
from kd_cli.teachers.combination import Combination
from kd_cli.teachers.ensemble import Members

SHORT = ("student.train.epochs=1", "baseline=false")
MEMBER = ("model@teacher.member.model=mlp_30", "teacher.member.train.epochs=1")
TEACHER = ("teacher=ensemble", "teacher.size=2", *MEMBER)
WORDS = (*TEACHER, *SHORT)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("first")
    done = inside("distill", *WORDS, cwd=folder)
    assert done.status == 0, done.err
    return folder, done


@pytest.fixture
def again(first: tuple[Path, Outcome], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    shutil.copytree(first[0] / "outputs", tmp_path / "outputs")

    def run(*words: str) -> dict[str, Any]:
        return inside("distill", *WORDS, *words, cwd=tmp_path).result

    return run


def made(result: dict[str, Any]) -> set[str]:
    """The stages that were not found in the store."""
    return {name for name, stage in result["stages"].items() if not stage["cached"]}


# What is made, and what is found again.


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
    images = next(test.images.stream([torch.arange(len(test))], torch.device("cpu"))).float() / 255
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


# Unlike members, stored members.


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
    assert summary["settings"] == ["teacher@teacher.member"]
    assert [job["teacher@teacher.member"] for job in summary["jobs"]] == ["cnn_digits", "mlp_1200"]
    assert len({job["student_artifact"] for job in summary["jobs"]}) == 2


LISTED = "Others are listed: 'teacher.members=[outputs/teachers/<id>,outputs/teachers/<id>]'."
WRITTEN = "A list of teachers is written 'teacher.members=[mlp_1200,cnn,outputs/teachers/<id>]'."
E = "teacher=ensemble "


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (E + "teacher.size=0", "teacher.size must be a whole number ≥ 1, got 0."),
        (E + "teacher.size=2.5", "teacher.size must be a whole number ≥ 1, got 2.5."),
        (E + "teacher.combine=mean", "teacher.combine must be one of arithmetic, geometric, got 'mean'."),
        *(
            (
                f"{E}teacher.size=2 teacher.weights={typed}",
                f"teacher.weights must be null or a list of 2 numbers ≥ 0, not all of them 0, got {got}.",
            )
            for typed, got in (
                ("[1,2,3]", "[1, 2, 3]"),
                ("[]", "[]"),
                ("[1,-1]", "[1, -1]"),
                ("[0,0.0]", "[0, 0.0]"),
                ("[1,much]", "[1, 'much']"),
                ("[1,nan]", "[1, nan]"),
                ("2", "2"),
            )
        ),
        (E + "teacher.members=[]", f"teacher.members must be a mapping, got '[]'. {WRITTEN}"),
        (
            E + "teacher.members=cnn",
            "teacher.members must be a mapping of names to teachers, got 'cnn'. "
            "Write 'teacher.members=[mlp_1200,cnn]', or /teacher@members.<name>: <choice> in the defaults of a YAML.",
        ),
        (
            E + "+teacher.members.wide=mlp_1200",
            "teacher.members.wide must be a mapping, got 'mlp_1200'. "
            "To choose a file of configs/teacher/, write teacher@teacher.members.wide=mlp_1200.",
        ),
        (E + "teacher.members=[cnn_digits,artifact]", "teacher.members.1.path must be given: teacher.members.1.path=…"),
        (
            E + "teacher.members=[cnn_digits,outputs/teachers/0]",
            "teacher.members.1.path must be a run folder or a folder of teachers/ or students/, "
            "got 'outputs/teachers/0'.",
        ),
        (
            E + "teacher.members=[cnn_digits,wrn_40_2] normalisation.mean=[0.5071,0.4867,0.4408]",
            "teacher.members.1.model.mean must be one number, or one for each of 1 channel(s), "
            "got [0.5071, 0.4867, 0.4408].",
        ),
        (E + "teacher.members=[ensemble]", "teacher.members.0 must be one network, got 'Ensemble'."),
        (
            E + "teacher.member=ensemble",
            f"teacher.member must be a teacher that kd trains, from a seed, got 'Ensemble'. {LISTED}",
        ),
        (
            E + "teacher.member=artifact teacher.member.path=x",
            f"teacher.member must be a teacher that kd trains, from a seed, got 'Stored'. {LISTED}",
        ),
        (
            "teacher.member=cnn",
            "teacher.member must be a key of kd distill, got 'teacher.member=cnn'. Choose it with teacher=ensemble.",
        ),
        (
            E + "teacher.member.model=cnn",
            "teacher.member.model must be a mapping, got 'cnn'. "
            "To choose a file of configs/model/, write model@teacher.member.model=cnn.",
        ),
        (
            E + "teacher.member.train.optimizer=adamw",
            "teacher.member.train.optimizer must be a mapping, got 'adamw'. "
            "To choose a file of configs/optimizer/, write optimizer@teacher.member.train.optimizer=adamw.",
        ),
        (E + "teacher.member.train.epochs=0", "teacher.member.train.epochs must be a whole number ≥ 1, got 0."),
        (E + "teacher.member.model.dropout=1", "teacher.member.model.dropout must be ≥ 0 and < 1, got 1."),
        (
            E + "teacher.members=[cnn_digits] teacher.members.0.seed=-1",
            "teacher.members.0.seed must be a whole number ≥ 0, got -1. "
            "On a shell, quote a reference: 'teacher.seed=${seed}'.",
        ),
    ],
)
def test_one_message_and_nothing_left_behind(words: str, message: str, tmp_path: Path) -> None:
    done = inside("distill", *words.split(" "), cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", message + "\n")
    assert files_below(tmp_path) == []


def test_a_stored_member_for_other_classes_is_refused_by_its_key(first: tuple[Path, Outcome], tmp_path: Path) -> None:
    stored = first[0] / "outputs" / first[1].result["student"]["artifact"]
    from PIL import Image

    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(tmp_path / "pets" / part / name / "one.png")
    words = ("dataset=image_folder", "dataset.root=pets", "teacher=ensemble", f"teacher.members=[{stored}]")
    done = inside("distill", *words, cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith("teacher.members.0.path must be a model with the classes of dataset=image_folder, got ")


def test_the_arithmetic_mean_in_a_population_is_refused(tmp_path: Path) -> None:
    words = ("hydra/launcher=population", "temperature=1,2", "student.model.dropout=0")
    done = inside("sweep", *WORDS, *words, cwd=tmp_path)
    assert done.status == 1
    assert "teacher.combine must be geometric in a population, got 'arithmetic'. Leave out" in done.err
