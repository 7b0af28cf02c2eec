"""Where the files of a data set lie, as people have them."""

from pathlib import Path

import pytest

from kd_cli.data.labelling import labelled_layout
from kd_cli.data.layout import Kind, Layout, lay_out, part_of
from kd_cli.errors import DataError

SOUNDS = Kind("sound", frozenset([".wav", ".flac"]))


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def found(layout: Layout) -> dict[str, dict[str, str | None]]:
    """Each part's files with their classes, None for an unlabelled one."""
    return {
        part: {file.name: layout.classes[file.label] if file.label >= 0 else None for file in listed}
        for part, listed in layout.parts.items()
    }


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"), ("Train", "train"), ("TRAINING", "train"), ("training_set", "train"),
        ("val", "validation"), ("Valid", "validation"), ("validation", "validation"), ("DEV", "validation"),
        ("test", "test"), ("Testing", "test"), ("test_set", "test"), ("Test Images", "test"), ("transfer", "transfer"),
        ("tests", None), ("trains", None), ("latest", None), ("cat", None), ("testimony", None), ("", None),
    ],
)  # fmt: skip
def test_names_that_are_in_use_for_splits(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "validation", "test"), ("Train", "VAL", "Test"), ("training_set", "dev", "test_set")],
)
def test_splits_and_classes_are_folders(tmp_path, train, validation, test):
    files(tmp_path, f"{train}/a/1.wav", f"{train}/b/deep/2.FLAC", f"{validation}/b/3.wav", f"{test}/a/4.wav")
    files(tmp_path, "transfer/5.wav", "transfer/a/6.wav", f"{train}/a/notes.txt", "README.md", "extra/7.wav")
    layout = lay_out(str(tmp_path), SOUNDS)
    assert found(layout) == {
        "train": {f"{train}/a/1.wav": "a", f"{train}/b/deep/2.FLAC": "b"},
        "validation": {f"{validation}/b/3.wav": "b"},
        "transfer": {"transfer/5.wav": None, "transfer/a/6.wav": "a"},
        "test": {f"{test}/a/4.wav": "a"},
    }
    assert layout.others == [tmp_path / train / "a/notes.txt"]
    assert layout.beside == ["README.md", "extra/"]
    assert layout.without_class("validation") == ["a"]


def test_an_archive_holds_one_folder_and_a_split_another_of_its_name(tmp_path):
    files(tmp_path, "set-1.0/data/training_set/training_set/a/1.wav", "set-1.0/data/test_set/test_set/a/2.wav")
    files(tmp_path, "__MACOSX/x.wav", "set-1.0/.git/y.wav")
    layout = lay_out(str(tmp_path), SOUNDS)
    assert {part: list(its) for part, its in found(layout).items()} == {
        "train": ["set-1.0/data/training_set/training_set/a/1.wav"],
        "test": ["set-1.0/data/test_set/test_set/a/2.wav"],
    }


def test_classes_may_lie_straight_below_the_root_and_be_links(tmp_path):
    files(tmp_path, "root/a/1.wav", "elsewhere/2.wav", "root/labels.txt", "root/@eaDir/3.wav", "root/transfer/4.wav")
    (tmp_path / "root" / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    layout = lay_out(str(tmp_path / "root"), SOUNDS)
    assert found(layout) == {"train": {"a/1.wav": "a", "b/2.wav": "b"}, "transfer": {"transfer/4.wav": None}}
    assert layout.others == [tmp_path / "root/labels.txt"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("val/a/1.wav", "a/1.wav"), "{0} must be a folder of sounds, got {1!r}, where there is val/ and no train/."),
        (("train/a/1.wav", "Training/a/2.wav"), "{1} must hold one folder for each split, got Training/ and train/."),
        (("train/1.wav", "train/l.csv"), "{1}/train must hold one folder for each class, got none. Put each class into "
         "a folder of its own, or name a table of names and labels: dataset.labels=l.csv."),
        (("a/1.wav", "b/x.txt"), "{1} must hold sounds (.flac, .wav) of every class, got none of: b."),
        (("a/1.wav", "b/2.wav", "3.wav"), "{1}/3.wav is in no class of {1} (a, b)."),
        (("train/a/1.wav", "test/2.wav"), "{1}/test/2.wav is in no class of {1}/train (a). Without labels nothing can "
         "be tested on: rename test/ to transfer/, and dataset.test=0.2 sets some apart."),
        (("train/a/1.wav", "test/a/x.txt"), "{1}/test holds no sounds (.flac, .wav)."),
        ((), "dataset.root must be a folder of sounds, got {1!r}, which is not there."),
    ],
)  # fmt: skip
def test_what_has_no_such_order_is_refused(tmp_path, names, said):
    root = tmp_path / "root"
    files(root, *names)
    with pytest.raises(DataError) as refusal:
        lay_out(str(root), SOUNDS)
    assert str(refusal.value).startswith(
        said.replace("{0}", "dataset.root").format(None, str(root)).replace("'/", "'/")
    )


# --- classes by a table or a pattern

TABLES = {
    "plain.csv": "file,label\n1.wav,yes\n2.wav,no\n",
    "semicolons.csv": "\ufeffid;set of it;Species\n1;x;yes\n2;y;no\n",
    "paths.tsv": "path\tclass id\tclass\n/home/me/clips/1.wav\t0\tyes\nclips\\2.wav\t1\tno\n",
    "bare.csv": "1.wav,yes\n2.wav,no\n",
    "lines.jsonl": '{"name": "./clips/1.wav", "label": "yes"}\n\n{"name": "clips/2.wav", "label": "no"}\n',
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_names_files_as_people_write_them(tmp_path, table):
    files(tmp_path, "clips/1.wav", "clips/2.wav", "clips/3.wav")
    (tmp_path / table).write_text(TABLES[table], encoding="utf-8")
    layout = labelled_layout(str(tmp_path), SOUNDS, table, None, None)
    assert found(layout) == {"train": {"clips/1.wav": "yes", "clips/2.wav": "no"}}
    assert layout.beside == [f"1 sound(s) without a row in {table}"]


def test_a_table_of_parquet_with_splits_and_numbers(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = [f"{k}.wav" for k in range(12)]
    files(tmp_path, *names)
    splits = ["train"] * 11 + ["Test"]
    parquet.write_table(arrow.table({"name": names, "split": splits, "digit": [*range(11), 3]}), tmp_path / "t.parquet")
    layout = labelled_layout(str(tmp_path), SOUNDS, "t.parquet", None, None)
    assert layout.classes == [str(k) for k in range(11)], "by number, not by letter"
    assert found(layout)["test"] == {"11.wav": "3"}


def test_the_column_of_classes_is_asked_for_where_names_do_not_tell(tmp_path):
    files(tmp_path, "1.wav", "2.wav")
    (tmp_path / "t.csv").write_text("file,age,mood\n1.wav,3,good\n2.wav,4,bad\n")
    with pytest.raises(Exception, match=r"^dataset\.label must be a column of .*t\.csv \(age, mood\), got None\.$"):
        labelled_layout(str(tmp_path), SOUNDS, "t.csv", None, None)
    assert labelled_layout(str(tmp_path), SOUNDS, "t.csv", "mood", None).classes == ["bad", "good"]
    with pytest.raises(Exception, match=r"^dataset\.label must be a column of .*t\.csv .*, got 'Mood'\.$"):
        labelled_layout(str(tmp_path), SOUNDS, "t.csv", "Mood", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file,label\n9.wav,a\n", "dataset.labels must be a table with a column that names files below the root, got "),
        ("file,label\n1.wav,a\n1.wav,b\n", "t.csv must hold one label for each file, got several of: 1.wav."),
        ("file,label\n1.wav,a\n2.wav\n", "t.csv is no table: line 3 has 1 cells, the first line 2."),
        ("file,label\nx.wav,a\n1.wav,b\n", "t.csv: several files have the name of: x.wav. "),
        ("", "t.csv holds no rows."),
        ("caf\xe9", "t.csv is not UTF-8 (byte 3). Save it as UTF-8."),
    ],
)
def test_a_table_that_does_not_say_the_classes_is_refused(tmp_path, content, said):
    files(tmp_path, "1.wav", "2.wav", "a/x.wav", "b/x.wav")
    (tmp_path / "t.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError) as refusal:
        labelled_layout(str(tmp_path), SOUNDS, "t.csv", None, None)
    assert said in str(refusal.value)


def test_rows_without_a_file_and_files_without_a_label_are_told(tmp_path, caplog):
    files(tmp_path, "1.wav", "2.wav", "3.wav")
    (tmp_path / "t.csv").write_text("file,label\n1.wav,a\n2.wav,\n7.wav,b\n3.wav,b\n")
    assert labelled_layout(str(tmp_path), SOUNDS, "t.csv", None, None).classes == ["a", "b"]
    assert "1 row(s) name no file and are left out: 7.wav" in caplog.text
    assert "1 file(s) have no label and are left out: 2.wav" in caplog.text


def test_a_pattern_tells_classes_and_the_folders_splits(tmp_path):
    files(tmp_path, "Train/7_ann_0.wav", "Train/8_ann_1.wav", "Test/7_bob_0.wav")
    layout = labelled_layout(str(tmp_path), SOUNDS, None, None, r"(\d)_[a-z]+_\d+\.wav$")
    assert found(layout) == {
        "train": {"Train/7_ann_0.wav": "7", "Train/8_ann_1.wav": "8"},
        "test": {"Test/7_bob_0.wav": "7"},
    }
    files(tmp_path, "Train/x.wav")
    with pytest.raises(DataError, match=r"1 name\(s\) have none of it: Train/x\.wav\.$"):
        labelled_layout(str(tmp_path), SOUNDS, None, None, r"(\d)_[a-z]+_\d+\.wav$")
