from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_cli.data.tables import column_of, rows_of
from kd_cli.errors import DataError

ROWS = [{"text": 'so, "good"', "label": "1"}, {"text": "schlecht", "label": "0"}]


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"so, ""good""",1\nschlecht,0\n', "utf-8-sig")
    (tmp_path / "a.TSV").write_text('text\tlabel\nso, "good"\t1\nschlecht\t0\n')
    (tmp_path / "a.jsonl").write_text(
        '{"text": "so, \\"good\\"", "label": "1"}\n\n{"text": "schlecht", "label": "0"}\n'
    )
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        assert rows_of(path, "texts") == ROWS, path.name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"text,label\n", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"text,text\na,b\n", "must begin with a line of different names"),
        ("a.csv", b"text,label\na,b,c\n", "line 2 has 3 cells, the first line 2"),
        ("a.csv", b'text,label\n"a,b\n', "line 2"),
        ("a.csv", b"text,label\n\xff,1\n", "is not UTF-8"),
        ("a.jsonl", b'{"text": 1}\n{"text"\n', "is no JSON Lines: line 2: "),
        ("a.jsonl", b"[1]\n", "line 1 is no object"),
        ("a.parquet", b"PAR1 not at all PAR1", "is no Parquet: "),
    ],
)
def test_a_damaged_file_is_named_with_the_line(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        rows_of(tmp_path / name, "texts")


def test_a_column_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        DataError, match=r"dataset.text must be the name of a column, got 'txt', where a.csv has text, lab"
    ):
        column_of(Path("a.csv"), ROWS, "txt", ".dataset.text")
