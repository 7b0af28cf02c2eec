"""A teacher of generalist and specialists, end to end: what is made, what is found again, what is refused."""

import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from running import inside
from safetensors.torch import load_file

from kd_cli.cli.choices import choices
from kd_cli.commands import train_teacher
from kd_cli.datasets.confusable import confusable
from kd_cli.steps.teacher import Teacher

# End to end, on three groups of four classes.

TINY = (
    "distill", "teacher=specialists", "dataset=confusable", "dataset.groups=3", "dataset.classes_each=4",
    "model@teacher.generalist.model=mlp_64", "teacher.generalist.model.widths=[8]", "teacher.generalist.train.epochs=2",
    "teacher.generalist.model.dropout=0", "teacher.train.epochs=2", "student.train.epochs=1",
)  # fmt: skip


def artifacts(result: dict[str, Any]) -> dict[str, str]:
    return {name: stage["artifact"] for name, stage in result["stages"].items()}


def cached(result: dict[str, Any]) -> set[str]:
    return {name for name, stage in result["stages"].items() if stage["cached"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("specialists")


@pytest.fixture(scope="module")
def first(folder: Path) -> dict[str, Any]:
    return inside(*TINY, cwd=folder).result


def test_a_run_says_what_the_specialists_gain(first: dict[str, Any], folder: Path) -> None:
    assert list(first["stages"]) == [
        "generalist", "specialist_1", "specialist_2", "specialist_3", "soft_targets", "student", "baseline",
    ]  # fmt: skip
    teacher, generalist = first["teacher"], first["teacher"]["generalist"]
    assert teacher["artifact"] is None
    assert set(generalist) == {"errors", "n", "accuracy", "nll"}
    assert sum(row["n"] for row in teacher["covering"]) == teacher["n"] == generalist["n"]
    for ours, theirs in (("errors", teacher), ("generalist_errors", generalist)):
        assert sum(row[ours] for row in teacher["covering"]) == theirs["errors"]
    assert [len(own) for own in teacher["sets"]] == [4, 4, 4]
    assert set(teacher["conditional"]) == {"n", "generalist_accuracy", "accuracy"}
    stored = folder / "outputs" / first["stages"]["specialist_1"]["artifact"] / "manifest.json"
    assert json.loads(stored.read_text())["identity"]["classes"] == [*teacher["sets"][0], "dustbin"]


def test_a_stored_specialist_is_corrected_for_what_it_saw_too_often(first: dict[str, Any], folder: Path) -> None:
    data = confusable(groups=3, classes_each=4)
    for number, own in enumerate(first["teacher"]["sets"], 1):
        known = torch.isin(data.train.labels, torch.tensor([data.classes.index(name) for name in own]))
        path = folder / "outputs" / first["stages"][f"specialist_{number}"]["artifact"] / "model.safetensors"
        expected = [0.0] * len(own) + [math.log(int((~known).sum()) / int(known.sum()))]
        assert load_file(path)["correction"].tolist() == pytest.approx(expected)
        assert expected[-1] > 0.1


def test_nothing_of_a_teacher_learns_any_more(first: dict[str, Any], folder: Path) -> None:
    taught: list[Teacher] = []
    obtain = train_teacher.obtain_teacher
    with mock.patch.object(train_teacher, "obtain_teacher", lambda *asked: taught.append(obtain(*asked)) or taught[0]):
        assert inside("train-teacher", *TINY[1:-1], cwd=folder).status == 0
    assert len(list(taught[0].network.parameters())) > 8
    assert not any(parameter.requires_grad for parameter in taught[0].network.parameters())


def test_a_second_run_finds_everything(first: dict[str, Any], folder: Path) -> None:
    done = inside(*TINY, cwd=folder)
    again = done.result
    assert "test errors by the number of specialists that know" in done.err
    assert artifacts(again) == artifacts(first)
    assert cached(again) == set(again["stages"])
    assert again["teacher"]["covering"] == first["teacher"]["covering"]
    assert "Nothing to remove" in inside("clean", cwd=folder).err


TRAINED = {"generalist", "specialist_1", "specialist_2", "specialist_3", "baseline"}


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("teacher.top_n=3", TRAINED),
        ("teacher.train.epochs=3", {"generalist", "baseline"}),
        ("teacher.seed=1", {"generalist", "baseline"}),
        ("teacher.classes_each=5", {"generalist", "baseline"}),
        ("temperature=2", TRAINED | {"soft_targets"}),
    ],
)
def test_a_key_makes_anew_what_depends_on_it(first: dict[str, Any], folder: Path, word: str, kept: set[str]) -> None:
    assert cached(inside(*TINY, word, cwd=folder).result) == kept


def test_with_another_start_it_is_another_specialist_of_the_same_classes(tmp_path: Path) -> None:
    groups = ("dataset.groups=2", "dataset.classes_each=3", "teacher.specialists=2", "teacher.classes_each=3")
    sure = ("teacher.generalist.model.widths=[64]", "teacher.generalist.train.epochs=12", "teacher.train.epochs=1")
    one, other = (
        inside("train-teacher", *TINY[1:3], *groups, *sure, f"teacher.generalist.seed={seed}", cwd=tmp_path).result
        for seed in (0, 1)
    )
    assert one["teacher"]["sets"] == other["teacher"]["sets"] == [["0-0", "0-1", "0-2"], ["1-0", "1-1", "1-2"]]
    for name in ("specialist_1", "specialist_2"):
        assert one["stages"][name]["artifact"] != other["stages"][name]["artifact"]


def test_the_generalist_is_the_artifact_of_a_teacher_alone(first: dict[str, Any], folder: Path) -> None:
    words = [word.replace("teacher.generalist", "teacher") for word in TINY if word != "teacher=specialists"]
    words = [word for word in words[1:-1] if word != "teacher.train.epochs=2"]
    done = inside("train-teacher", "teacher=cnn_digits", *words, "teacher.train.epochs=2", cwd=folder).result
    assert done["stages"]["teacher"] == {**done["stages"]["teacher"], "cached": True} | {
        "artifact": first["stages"]["generalist"]["artifact"]
    }


def test_a_stored_generalist_gets_specialists_too(first: dict[str, Any], folder: Path) -> None:
    path = f"outputs/{first['stages']['generalist']['artifact']}"
    words = (*TINY[:5], "teacher@teacher.generalist=artifact", f"teacher.generalist.path={path}", *TINY[-2:])
    done = inside(*words, "baseline=false", cwd=folder).result
    assert done["teacher"]["generalist"] == first["teacher"]["generalist"]
    assert done["teacher"]["sets"] == first["teacher"]["sets"]


def test_an_online_teacher_is_asked_in_every_step(first: dict[str, Any], folder: Path) -> None:
    done = inside(*TINY, "teacher.online=true", "baseline=false", cwd=folder).result
    assert cached(done) == TRAINED - {"baseline"}
    assert "soft_targets" not in done["stages"]


GROUPS = ("teacher=specialists", *TINY[2:5])


@pytest.mark.parametrize(
    ("word", "refusal"),
    [
        ("teacher.specialists=0", "teacher.specialists must be a whole number ≥ 1, got 0."),
        ("teacher.specialists=13", "teacher.specialists must be at most 12, the number of classes, got 13."),
        ("teacher.classes_each=x", "teacher.classes_each must be a whole number ≥ 1, got 'x'."),
        (
            "teacher.classes_each=11",
            "teacher.classes_each must be at most 10, the number of classes less a dustbin of two, got 11.",
        ),
        ("teacher.top_n=1.5", "teacher.top_n must be a whole number ≥ 1, got 1.5."),
        ("teacher.top_n=13", "teacher.top_n must be at most 12, the number of classes, got 13."),
        ("teacher.train.epochs=0", "teacher.train.epochs must be a whole number ≥ 1, got 0."),
        ("teacher.generalist.train.epochs=0", "teacher.generalist.train.epochs must be a whole number ≥ 1, got 0."),
        (
            "teacher.train.select=best_validation",
            "teacher.train.select must be last where there is no validation split, got 'best_validation'. "
            "Set dataset.validation=0.1.",
        ),
        (
            "teacher@teacher.generalist=specialists",
            "teacher.generalist must be a single network, got 'Specialists'. "
            "To choose one, write teacher.generalist=mlp_1200.",
        ),
        (
            "teacher.generalist.model=cnnn",
            f"teacher.generalist.model must be one of {', '.join(choices('model'))}, got 'cnnn'. Did you mean 'cnn'?",
        ),
        (
            "augment@teacher.augment=mixup",
            "teacher.augment must be without mixtures for specialists, got 'Mixup'. "
            "Half of a specialist's samples are to be of its own classes, and partners come from all.",
        ),
        ("dataset.groups=1", "dataset.groups must be a whole number ≥ 2, got 1."),
    ],
)
def test_a_wrong_input_is_refused_and_leaves_nothing(word: str, refusal: str, tmp_path: Path) -> None:
    done = inside("distill", *GROUPS, word, cwd=tmp_path)
    assert (done.status, done.err.strip().splitlines()[-1]) == (1, refusal)
    assert list(tmp_path.iterdir()) == []


def test_the_made_up_task_is_the_same_every_time_and_its_groups_are_plain() -> None:
    from kd_cli.datasets.confusable import confusable

    data, again = confusable(), confusable(seed=3)
    assert data.fingerprint == again.fingerprint
    assert (len(data.train), len(data.test), len(data.classes)) == (20_000, 5_000, 100)
    pixels = [split.samples.values.flatten(1).double() for split in (data.train, data.test)]  # type: ignore[attr-defined]
    means = torch.stack([pixels[0][data.train.labels == k].mean(0) for k in range(100)])
    found = torch.cdist(pixels[1], means).argmin(1)
    assert (found // 10 == data.test.labels // 10).double().mean() > 0.97
    assert (found != data.test.labels).double().mean() > 0.05
