import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from text_files import sentences, subjects, write

from kd_cli.data.texts import bytes_of
from kd_cli.datasets.text import text
from kd_cli.errors import KdError


def test_a_folder_with_a_file_for_each_split(tmp_path: Path) -> None:
    dataset = text(str(subjects(tmp_path)))
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (180, 60, ("animal", "food", "tool"))
    assert dataset.validation is None
    (first,) = dataset.train.samples.stream([torch.tensor([0])], torch.device("cpu"))
    assert bytes_of(first)[0].decode() == sentences(1, 1)[0][0]
    assert dataset.train.labels[:4].tolist() == [0, 1, 2, 0]


def test_files_of_any_kind_and_of_usual_names_are_the_same_data(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, kind in zip(folders, (".csv", ".tsv", ".jsonl"), strict=True):
        folder.mkdir()
        for stem, rows in (("train", sentences(60, 1)), ("dev", sentences(30, 2)), ("test", sentences(30, 3))):
            if kind == ".jsonl":
                lines = (json.dumps({"text": said, "label": name}) for said, name in rows)
                (folder / f"{stem}.jsonl").write_text("\n".join(lines))
            else:
                write(folder / f"{stem}{kind}", rows)
    found = {text(str(folder)).fingerprint for folder in folders}
    assert len(found) == 1
    dataset = text(str(folders[0]))
    assert dataset.validation is not None
    assert len(dataset.validation) == 30


def test_of_a_single_file_the_test_split_is_set_apart_stratified(tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    pq.write_table(pa.Table.from_pylist([{"text": said, "label": name} for said, name in sentences(100, 1)]), path)
    dataset = text(str(path), test=0.3, validation=10)
    assert dataset.validation is not None
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (60, 10, 30)
    assert dataset.test.labels.bincount().tolist() == [10, 10, 10]
    held = {*dataset.train.index.tolist(), *dataset.validation.index.tolist()} & set(dataset.test.index.tolist())
    assert not held
    assert text(str(path), test=0.3, seed=1).fingerprint != text(str(path), test=0.3).fingerprint


def test_numbers_are_classes_in_their_order_and_transfer_texts_may_lack_labels(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [(f"said {k}", str(k % 11)) for k in range(44)])
    write(tmp_path / "test.csv", [(f"asked {k}", str(k)) for k in range(11)])
    write(tmp_path / "unlabelled.csv", [("new", ""), ("newer", "10")])
    dataset = text(str(tmp_path))
    assert dataset.classes == tuple(map(str, range(11)))
    assert dataset.transfer.labels.tolist() == [-1, 10]
    (tmp_path / "unlabelled.csv").write_text("text\nnew\nnewer\n")
    assert text(str(tmp_path)).transfer.labels.tolist() == [-1, -1]


def test_a_pair_is_two_columns(tmp_path: Path) -> None:
    lines = "\n".join(f"so {k},as {k},{'yes' if k % 2 else 'no'}" for k in range(20))
    (tmp_path / "pairs.csv").write_text(f"premise,hypothesis,label\n{lines}\n")
    dataset = text(str(tmp_path / "pairs.csv"), text=["premise", "hypothesis"])
    (first,) = dataset.train.samples.stream([torch.tensor([0])], torch.device("cpu"))
    assert bytes_of(first)[0].startswith(b"so ")
    assert bytes_of(first)[0].split(b"\xff")[1].startswith(b"as ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"text": "txt"},
            "dataset.text must be the name of a column, got 'txt', where train.csv has text, label. Did you",
        ),
        ({"label": "class"}, "dataset.label must be the name of a column"),
        ({"text": ["a", "b", "c"]}, "dataset.text must be the name of a column, or a list of two"),
        ({"longest": 3}, "dataset.longest must be"),
        ({"root": "nowhere"}, "dataset.root must be a file of texts"),
        ({"seed": -1}, "dataset.seed must be"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_key(options: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(KdError) as refused:
        text(**{"root": str(subjects(tmp_path)), **options})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", "x"), (" ", "y"), ("", "x")], "2 text(s) are empty: rows 2, 3"),
        ([("a", "x"), ("b", "")], "1 row(s) have no label: rows 2"),
        ([("a", "x"), ("b", "z")], "of 1 class(es) that no training text has: z"),
    ],
)
def test_rows_that_cannot_be_used_are_listed(rows: list[tuple[str, str]], said: str, tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [("a", "x"), ("b", "y")])
    write(tmp_path / "test.csv", rows)
    with pytest.raises(KdError) as refused:
        text(str(tmp_path))
    assert said in str(refused.value)


@pytest.mark.parametrize("test", [0, 1.5, 180, "x", 0.001])
def test_a_test_split_of_no_size_is_refused(test: object, tmp_path: Path) -> None:
    write(tmp_path / "all.csv", sentences(180, 1))
    with pytest.raises(KdError, match=r"dataset.test must be"):
        text(str(tmp_path / "all.csv"), test=test)


def test_what_is_cut_and_what_is_in_both_splits_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "train.csv", [("a " * 30, "x"), ("b", "y")])
    write(tmp_path / "test.csv", [("b", "y"), ("c", "x")])
    with caplog.at_level("INFO", "kd"):
        text(str(tmp_path), longest=20)
    said = caplog.text
    assert "2 training, 2 test texts of 2 classes from train.csv, test.csv" in said
    assert "1 text(s) are cut off after 20 bytes" in said
    assert "1 test text(s) are among the training texts too" in said


def test_a_data_set_of_the_hub_is_read_by_its_splits_and_class_names(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra hub is not installed")
    subjects(tmp_path / "there")
    dataset = text(hub=str(tmp_path / "there"))  # a folder is what its library takes for one, too
    assert dataset.fingerprint == text(str(tmp_path / "there")).fingerprint
    with pytest.raises(KdError, match=r"dataset.hub must be a data set of the hub that can be fetched"):
        text(hub=str(tmp_path / "nowhere"))
