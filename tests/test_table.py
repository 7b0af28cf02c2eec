"""Tables at every width, and what a spreadsheet makes of one."""

import csv
import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from kd_cli.screen import shown, write_csv
from kd_cli.table import Sheet


def drawn(sheet: Sheet, width: int, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding)
    Console(file=file, width=width, markup=False, emoji=False, highlight=False).print(sheet)
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [12, 30, 50, 60, 79, 80, 120])
def test_no_width_makes_two_values_look_the_same(width: int) -> None:
    headings = ("student.train.optimizer.lr", "student.train.epochs", "augment@transfer.augment", "teacher errors")
    values = [
        "0.0001",
        "0.0005",
        "0.00012345678901",
        "[cat]",
        "[/cat]",
        r"a\x1b",
        "a\x1b",
        "cat",
        "cat ",
        "猫猫猫",
        "猫猫狗",
    ]
    sheet = Sheet("sweep s1", headings, [(value, "20", "affine", 17) for value in values], note="* a note")
    lines = drawn(sheet, width).splitlines()
    assert "…" not in "".join(lines)
    assert max(map(cell_len, lines)) <= width
    assert (lines[0], lines[-1]) == ("sweep s1", "* a note")
    if table := [line for line in lines if line.startswith("│")]:
        assert [line.split("│")[1].strip() for line in table] == [shown(value) for value in values]
    else:
        records = "\n".join(lines[1:-1]).split("\n\n")
        said = ["".join(record.split()) for record in records]
        expected = [[value, "20", "affine", "17"] for value in map(shown, values)]
        assert said == ["".join(f"{h}{v}" for h, v in zip(headings, e, strict=True)).replace(" ", "") for e in expected]


def test_a_heading_breaks_between_words_before_a_table_becomes_a_list() -> None:
    sheet = Sheet("t", ("student.train.epochs", "teacher errors"), [("20", "17"), ("30", "18")])
    assert "student.train.epochs ┃ teacher errors" in drawn(sheet, 120)
    assert [line.split() for line in drawn(sheet, 25).splitlines()[2:5]] == [
        ["┃", "student.", "┃", "┃"],
        ["┃", "train.", "┃", "teacher", "┃"],
        ["┃", "epochs", "┃", "errors", "┃"],
    ]
    narrow = ["t", "student.train.epoch", "s  20", "teacher errors", "17", "", "student.train.epoch", "s  30"]
    assert [line.rstrip() for line in drawn(sheet, 19).splitlines()][:8] == narrow


def test_a_table_in_ascii() -> None:
    assert drawn(Sheet("t", ("a", "b"), [(1, 2)]), 40, "ascii").isascii()


def test_text_cells_are_escaped_and_numbers_are_not() -> None:
    cells = [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        "＝1",
        "\t=1",
        "-1.5",
        "-inf",
        "+2e5",
        "plain",
        -2,
        -0.5,
        None,
        True,
        "",
    ]
    file = io.StringIO(newline="")
    write_csv(file, ["=key"], [{"=key": cell} for cell in cells])
    heading, *read = [row[0] if row else "" for row in csv.reader(io.StringIO(file.getvalue()))]
    assert heading == "'=key"
    texts = ["'=1+1", "'+1+1", "'-1+1", "'@SUM(A1)", "'＝1", r"\x09=1"]
    assert read == [*texts, "-1.5", "-inf", "+2e5", "plain", "-2", "-0.5", "", "True", ""]
