import pytest

from kd_cli.errors import ConfigError
from kd_cli.extras import library


def test_an_installed_library_is_imported() -> None:
    import json

    assert library("json", "any", "nothing") is json


def test_one_that_is_not_installed_is_refused_with_the_extra_that_brings_it() -> None:
    with pytest.raises(ConfigError, match=r"teacher=timm needs the library no_such_library, which is not installed\."):
        library("no_such_library", "timm", "teacher=timm")
    with pytest.raises(ConfigError, match=r"pip install 'kd-distill\[timm\]'"):
        library("no_such_library.models", "timm", "teacher=timm")


def test_what_an_installed_library_lacks_itself_is_not_blamed_on_the_extra(tmp_path, monkeypatch) -> None:
    (tmp_path / "lacking_library.py").write_text("import something_else_entirely\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_else_entirely"):
        library("lacking_library", "timm", "teacher=timm")
