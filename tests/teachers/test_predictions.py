"""A file of answers as a teacher: every format, and what is missing, double or over in it."""

import csv
import json
from pathlib import Path

import pytest
import torch
from answers import chances, data, index, rows, write_csv, written
from PIL import Image
from running import Outcome, inside
from safetensors.torch import load_file
from torch import Tensor

SHORT = ("student.train.epochs=2", "baseline=false")


def dumped(folder: Path, *words: str) -> tuple[Outcome, Tensor]:
    done = inside("dump-targets", "teacher=predictions", "targets.dtype=float32", *words, cwd=folder)
    assert done.status == 0, done.err
    (shard,) = (folder / "outputs/soft_targets").glob("*/logits-00000.safetensors")
    return done, load_file(shard)["logits"]


@pytest.mark.parametrize("kind", ["csv", "list-csv", "jsonl", "parquet", "npz", "safetensors"])
def test_the_same_answers_are_stored_whatever_the_format(kind: str, tmp_path: Path) -> None:
    done, logits = dumped(tmp_path, f"teacher.path={written(tmp_path, kind).name}")
    torch.testing.assert_close(logits.softmax(1), chances().float(), rtol=1e-4, atol=1e-6)
    assert "holds probabilities" in done.err or "holds logits" in done.err or "holds log-probabilities" in done.err


def test_rows_in_any_order_and_classes_in_another_are_joined_by_name(tmp_path: Path) -> None:
    order, columns = torch.randperm(len(chances())).tolist(), [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    shuffled = [[index()[k], *chances()[k][columns].tolist()] for k in order]
    write_csv(tmp_path / "a.csv", ["id", *map(str, columns)], shuffled)
    _, logits = dumped(tmp_path, "teacher.path=a.csv", "teacher.key=id")
    torch.testing.assert_close(logits.softmax(1), chances().float(), rtol=1e-4, atol=1e-6)


def test_without_the_test_split_the_teacher_has_dashes_and_the_gap_a_reason(tmp_path: Path) -> None:
    path = written(tmp_path, "csv").name
    done = inside("distill", "teacher=predictions", f"teacher.path={path}", "student.train.epochs=2", cwd=tmp_path)
    result = done.result
    assert result["teacher"] is None
    assert result["gap_recovered"] is None
    assert "no answers for 599 of the 599 test samples" in result["gap_reason"]
    assert "The teacher was not judged" in done.err
    (line,) = [line for line in done.err.splitlines() if "test errors" in line]
    assert line.split("│")[2].strip() == "–"


def test_with_the_test_split_it_is_judged_and_what_it_costs_is_null(tmp_path: Path) -> None:
    path = written(tmp_path, "csv").name
    write_csv(tmp_path / "test.csv", ["index", *map(str, range(10))], rows("test"))
    words = ("teacher=predictions", f"teacher.path={path}", "teacher.test=test.csv")
    teacher = inside("distill", *words, *SHORT, cwd=tmp_path).result["teacher"]
    assert teacher["errors"] == int((chances("test").argmax(1) != data().test.labels).sum())
    assert [teacher[key] for key in ("params", "flops", "bytes", "latency_ms")] == [None] * 4
    assert teacher["nll"] == pytest.approx(float(-chances("test").log()[range(599), data().test.labels].mean()), 1e-4)


def labels_file(folder: Path) -> str:
    write_csv(folder / "l.csv", ["index", "label"], list(zip(index(), chances().argmax(1).tolist(), strict=True)))
    return "teacher.path=l.csv"


def test_labels_alone_serve_hard_teacher_and_nothing_else(tmp_path: Path) -> None:
    path = labels_file(tmp_path)
    refused = inside("distill", "teacher=predictions", path, *SHORT, cwd=tmp_path)
    assert refused.status == 1
    assert "objective must be hard_teacher for this teacher, got 'Hinton'" in refused.err
    assert not (tmp_path / "outputs").exists()
    write_csv(
        tmp_path / "t.csv",
        ["index", "label"],
        list(zip(index("test"), chances("test").argmax(1).tolist(), strict=True)),
    )
    words = ("teacher=predictions", path, "teacher.test=t.csv", "objective=hard_teacher", *SHORT)
    result = inside("distill", *words, cwd=tmp_path).result
    assert result["teacher"]["nll"] is None
    assert result["teacher"]["ece"] is None
    assert result["student"]["agreement"] > 0.5
    assert result["student"]["kl_to_teacher"] is None


def test_a_few_classes_are_stored_as_top_k(tmp_path: Path) -> None:
    largest, classes = chances().topk(3)
    told = [[k, *(cell for pair in zip(c, p, strict=True) for cell in pair)]
            for k, c, p in zip(index(), classes.tolist(), largest.tolist(), strict=True)]  # fmt: skip
    write_csv(tmp_path / "k.csv", ["index", "class_1", "p_1", "class_2", "p_2", "class_3", "p_3"], told)
    refused = inside("dump-targets", "teacher=predictions", "teacher.path=k.csv", cwd=tmp_path)
    assert refused.status == 1
    assert "targets.temperatures must be a list" in refused.err
    words = ("teacher=predictions", "teacher.path=k.csv", "temperature=2", *SHORT)
    result = inside("distill", *words, cwd=tmp_path).result
    stored = tmp_path / "outputs" / result["stages"]["soft_targets"]["artifact"]
    manifest = json.loads((stored / "manifest.json").read_text())
    assert manifest["identity"]["top_k"] == 3
    assert manifest["temperatures"] == [2]
    view = load_file(stored / "logits-00000.safetensors")
    assert torch.equal(view["classes"].long(), classes)


def test_missing_rows_are_listed_and_go_on_without_an_answer_where_that_is_allowed(tmp_path: Path) -> None:
    there = [row for place, row in enumerate(rows()) if place not in (5, 77)]
    write_csv(tmp_path / "a.csv", ["index", *map(str, range(10))], there)
    refused = inside("distill", "teacher=predictions", "teacher.path=a.csv", *SHORT, cwd=tmp_path)
    assert refused.status == 1
    missing = f"Missing: {index()[5]}, {index()[77]}."
    assert f"{missing} Let them go on without an answer: teacher.allow_missing=0.002" in refused.err
    assert not (tmp_path / "outputs").exists()
    allowed = ("teacher=predictions", "teacher.path=a.csv", "teacher.allow_missing=0.002", *SHORT)
    done = inside("distill", *allowed, cwd=tmp_path)
    folder = tmp_path / "outputs" / done.result["stages"]["soft_targets"]["artifact"]
    assert json.loads((folder / "manifest.json").read_text())["untold"] == 2
    lost = load_file(folder / "logits-00000.safetensors")["logits"].isnan().all(1).nonzero()[:, 0].tolist()
    assert lost == [5, 77]
    epochs = (folder.parents[1] / done.result["student"]["artifact"] / "history.jsonl").read_text().splitlines()
    assert all(json.loads(line)["loss"] > 0 for line in epochs)
    again = inside("dump-targets", "teacher=predictions", "teacher.path=a.csv", cwd=tmp_path)
    assert again.status == 1


def test_double_and_surplus_rows_are_listed_and_those_that_differ_refused(tmp_path: Path) -> None:
    every = rows()
    write_csv(tmp_path / "a.csv", ["index", *map(str, range(10))], [*every, every[3], ["x.png", *every[0][1:]]])
    done, _ = dumped(tmp_path, "teacher.path=a.csv")
    assert f"1 sample(s) twice, alike: {every[3][0]}" in done.err
    assert "1 row(s) of no sample here: x.png" in done.err
    write_csv(tmp_path / "b.csv", ["index", *map(str, range(10))], [*every, [every[3][0], *every[0][1:]]])
    refused = inside("dump-targets", "teacher=predictions", "teacher.path=b.csv", cwd=tmp_path)
    assert f"says differing things of 1 sample(s): {every[3][0]}" in refused.err
    assert refused.status == 1


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        (["index", "a", "b"], [0, 1, 2], "teacher.path must be a file with a column for each class"),
        (["index", "label"], [0, "cat"], "the row of '0': 'cat' is no class"),
        (["index", *map(str, range(10))], [0, *["x"] * 10], "the row of '0': 'x' is no number"),
        (["index", "logits"], [0, "[1,2]"], "2 numbers for 10 classes"),
        (["who", *map(str, range(10))], ["z", *range(10)], "teacher.path must be a file with a row for each"),
    ],
)
def test_a_file_that_says_nothing_of_these_classes_is_refused(
    header: list[str], row: list[object], said: str, tmp_path: Path
) -> None:
    write_csv(tmp_path / "a.csv", header, [row])
    refused = inside("dump-targets", "teacher=predictions", "teacher.path=a.csv", cwd=tmp_path)
    assert refused.status == 1
    assert said in refused.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("teacher.path=none.csv",), "teacher.path must be a file, got 'none.csv', which is none."),
        (("teacher.path=x.txt",), "teacher.path must be a file of answers (.csv, .tsv"),
        (("teacher.path=l.csv", "teacher.key=who"), "teacher.key must be a column of l.csv (index, label), got 'who'"),
        (("teacher.path=l.csv", "teacher.gives=odds"), "teacher.gives must be one of logits, probabilities"),
        (("teacher.path=l.csv", "teacher.allow_missing=2"), "teacher.allow_missing must be between 0 and 1, got 2"),
        (("teacher.path=l.csv", "transfer.augment=jitter"), "transfer.augment must be null for this teacher"),
        (("teacher.path=l.csv", "teacher.classes=[0,1]"), "teacher.classes must be a list that holds every class"),
        (("teacher.path=l.csv", "teacher.online=true"), "teacher.online must be false"),
    ],
)
def test_what_a_file_cannot_do_is_refused_by_its_key(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    labels_file(tmp_path)
    refused = inside("distill", "teacher=predictions", "objective=hard_teacher", *words, cwd=tmp_path)
    assert refused.status == 1
    assert said in refused.err
    assert not (tmp_path / "outputs").exists()


def test_another_file_is_another_teacher_and_the_same_is_found_again(tmp_path: Path) -> None:
    path = written(tmp_path, "csv")
    words = ("dump-targets", "teacher=predictions", "teacher.path=answers.csv")
    assert "done in" in inside(*words, cwd=tmp_path).err
    assert "soft targets: found in" in inside(*words, cwd=tmp_path).err
    header, first, second, *others = csv.reader(path.read_text().splitlines())
    write_csv(path, header, [[first[0], *second[1:]], second, *others])
    assert "soft targets: made anew" in inside(*words, cwd=tmp_path).err


def test_it_is_a_member_of_an_ensemble_beside_a_network(tmp_path: Path) -> None:
    written(tmp_path, "csv")
    members = ("teacher=ensemble", "teacher.members=[cnn_digits,predictions]", "teacher.members.1.path=answers.csv")
    words = (*members, "teacher.members.0.train.epochs=1", *SHORT)
    done = inside("distill", *words, cwd=tmp_path)
    result = done.result
    assert len([stage for stage in result["stages"] if stage.startswith("soft_targets_")]) == 2
    assert result["teacher"] is None
    write_csv(tmp_path / "test.csv", ["index", *map(str, range(10))], rows("test"))
    teacher = inside("distill", *words, "teacher.members.1.test=test.csv", cwd=tmp_path).result["teacher"]
    assert [member["errors"] for member in teacher["members"]][1] == int(
        (chances("test").argmax(1) != data().test.labels).sum()
    )
    assert teacher["params"] is None


def test_files_are_joined_by_name(tmp_path: Path) -> None:
    for part, label, number in [(p, c, k) for p in ("train", "test") for c in ("a", "b") for k in range(4)]:
        folder = tmp_path / "data" / part / label
        folder.mkdir(parents=True, exist_ok=True)
        shade = 40 * number + 100 * (label == "b") + (part == "test")
        Image.new("L", (8, 8), shade % 256).save(folder / f"{label}{number}.png")
    names = [f"{label}{number}.png" for label in "ba" for number in range(4)]
    told = [[f"{name[0]}/{name}", *(0.25, 0.75)[:: -1 if name[0] == "a" else 1]] for name in names]
    write_csv(tmp_path / "p.csv", ["file", "a", "b"], told)
    shown = ("dataset=image_folder", "dataset.root=data", "dataset.size=8", "dataset.channels=1")
    quiet = ("dataset.duplicates=allow",)
    _, logits = dumped(tmp_path, "teacher.path=p.csv", *shown, *quiet)
    torch.testing.assert_close(logits.softmax(1), torch.tensor([[0.75, 0.25]] * 4 + [[0.25, 0.75]] * 4))
