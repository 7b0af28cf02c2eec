"""What a service told stays, line by line, whoever is killed while writing."""

from pathlib import Path

from kd_cli.teachers.service.book import Book


def test_what_was_added_is_read_by_the_next_and_by_those_who_wait(tmp_path: Path) -> None:
    one, other = Book(tmp_path, "a"), Book(tmp_path, "a")
    with one.alone():
        one.add("k", [0.1, None, 1e-300])
        one.add("l", 7)
    assert "k" not in other
    with other.alone():
        assert other.told == one.told == {"k": [0.1, None, 1e-300], "l": 7}
    assert Book(tmp_path, "a").told == one.told


def test_a_torn_line_and_a_changed_one_count_as_none(tmp_path: Path) -> None:
    book = Book(tmp_path, "a")
    with book.alone():
        for name in "klm":
            book.add(name, [1.5])
    lines = book.path.read_bytes().splitlines(keepends=True)
    book.path.write_bytes(lines[0] + lines[1].replace(b"1.5", b"2.5") + lines[2][:9])
    again = Book(tmp_path, "a")
    assert again.told == {"k": [1.5]}
    with again.alone():
        again.add("m", [3.0])
    assert Book(tmp_path, "a").told == {"k": [1.5], "m": [3.0]}
