import os

import pytest

from kd_cli.files import plain_file
from kd_cli.store.artifacts import whole_file


def test_a_file_written_whole_has_its_name_only_when_complete(tmp_path):
    path = tmp_path / "logits-00000.safetensors"

    def half() -> None:
        with whole_file(path) as working:
            working.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert list(tmp_path.iterdir()) == []
    with whole_file(path) as working:
        working.write_text("all of it")
        assert not path.exists()
        assert working.name.startswith("checkpoint.")
    assert (list(tmp_path.iterdir()), path.read_text()) == ([path], "all of it")


def test_a_small_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    plain_file.write(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    with pytest.raises(UnicodeEncodeError):
        plain_file.write(path, "new \ud800")
    path.with_name(f".result.json.{os.getpid()}").write_text("of a process that was killed")
    assert plain_file.read_plain(path, 3) == "é\n".encode()
    with pytest.raises(ValueError, match="too large"):
        plain_file.read_plain(path, 2)
    plain_file.write(path, "other")
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
