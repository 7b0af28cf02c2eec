"""What the identity holds of a person's own modules: the sources that run, and those that they import."""

import compileall
import os
from importlib import import_module
from pathlib import Path

import pytest
from own_modules import FLAT, choose
from running import TINY, inside

from kd_cli.build.own_code import admit, digest_of_source
from kd_cli.errors import ConfigError

IMPORTS = {
    "import": ({"{m}.py": "import {m}_helper\n"}, "{m}_helper.py"),
    "from import": ({"{m}.py": "from {m}_helper import x\n"}, "{m}_helper.py"),
    "in a function": ({"{m}.py": "def f():\n    from {m}_helper import x\n"}, "{m}_helper.py"),
    "under another name": ({"{m}.py": "import {m}_lib.deep.helper as h\n"}, "{m}_lib/deep/helper.py"),
    "through another": ({"{m}.py": "import {m}_b\n", "{m}_b.py": "from {m}_c import *\n"}, "{m}_c.py"),
    "in a circle": ({"{m}.py": "import {m}_b\n", "{m}_b.py": "import {m}\nimport {m}_c\n"}, "{m}_c.py"),
    "by its name": (
        {"{m}.py": "import importlib\nf = lambda: importlib.import_module('{m}_helper')\n"},
        "{m}_helper.py",
    ),
    "a package that hands on": ({"{m}/__init__.py": "from .impl import f\n"}, "{m}/impl.py"),
    "a package that hands on all": ({"{m}/__init__.py": "from {m}.impl import *\n"}, "{m}/impl.py"),
    "a package that imports a module": ({"{m}/__init__.py": "from . import impl\n"}, "{m}/impl.py"),
    "a package that hands on when asked": (
        {
            "{m}/__init__.py": "import importlib\nNAMES = ['impl']\n\n\ndef __getattr__(name):\n    return getattr("
            "importlib.import_module('.' + NAMES[0], __name__), name)\n"
        },
        "{m}/impl.py",
    ),
    "the package above": ({"{m}/__init__.py": "", "{m}/impl.py": "f = 1\n"}, "{m}/__init__.py"),
    "a sibling, relatively": (
        {"{m}/__init__.py": "", "{m}/a/__init__.py": "from ..b import f\n", "{m}/b/__init__.py": "from .c import f\n"},
        "{m}/b/c.py",
    ),
    "folders without __init__": ({"{m}/a/top.py": "import {m}.a.b.helper\n"}, "{m}/a/b/helper.py"),
}
TARGETS = {
    "the package above": "{m}.impl.f",
    "a sibling, relatively": "{m}.a.f",
    "folders without __init__": "{m}.a.top.f",
}


@pytest.mark.parametrize("case", IMPORTS)
def test_a_source_is_digested_with_the_modules_that_it_imports(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, helper = IMPORTS[case]
    name = f"digested_{list(IMPORTS).index(case)}"
    monkeypatch.syspath_prepend(tmp_path)
    for path, text in ({helper: "x = 1\n\n\ndef f():\n    pass\n"} | files).items():
        (tmp_path / path.format(m=name)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.format(m=name)).write_text(text.replace("{m}", name))
    target = TARGETS.get(case, "{m}.f").format(m=name)

    def digest() -> str:
        admit([target])  # as each run does
        return digest_of_source(target)

    before = digest()
    (tmp_path / f"{name}_unrelated.py").write_text("x = 2\n")
    assert digest() == before
    changed = tmp_path / helper.format(m=name)
    changed.write_text(changed.read_text() + "# changed\n")
    assert digest() != before


def test_an_installed_package_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "lib" / "site-packages"
    site.mkdir(parents=True)
    monkeypatch.syspath_prepend(site)
    monkeypatch.syspath_prepend(tmp_path)
    (site / "installed_one.py").write_text("import math, json\nimport installed_two\n")
    (site / "installed_two.py").write_text("x = 1\n")
    (tmp_path / "user_of_it.py").write_text("import installed_one\n")
    before = digest_of_source("user_of_it.f"), digest_of_source("installed_one.f")
    (site / "installed_two.py").write_text("x = 2\n")
    assert (digest_of_source("user_of_it.f"), digest_of_source("installed_one.f")) == before


@pytest.mark.parametrize("target", ["nowhere.f", "flat", "", "..f", "a b.f", "builtins.print"])
def test_a_name_that_leads_to_no_file_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match=r"^_target_ must be a name that can be imported, got "):
        digest_of_source(target)


@pytest.mark.parametrize("source", ["def f(:\n", "\0", "x = " + "(" * 300 + "\n"])
def test_a_source_that_cannot_be_read_is_digested_as_it_is(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unreadable_source.py").write_text(source)
    assert len(digest_of_source("unreadable_source.f")) == 64


# What runs is what is digested.


def test_a_stale_pyc_is_not_what_runs(tmp_path: Path) -> None:
    words = (*choose(tmp_path, "compiled_before.flat"), *TINY, "baseline=false")
    path = tmp_path / "compiled_before.py"
    path.write_text(FLAT.replace("width=8", "width=6"))
    assert compileall.compile_file(path, quiet=1)
    times = path.stat()
    path.write_text(FLAT.replace("width=8", "width=7"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    result = inside("distill", *words, cwd=tmp_path).result
    assert result["student"]["params"] == 64 * 7 + 7 + 7 * 10 + 10


def test_in_one_process_each_run_executes_the_source_of_its_time(tmp_path: Path) -> None:
    words = (*choose(tmp_path, "run_twice.flat"), *TINY, "baseline=false")
    (tmp_path / "run_twice.py").write_text("import run_twice_too\n\nflat = run_twice_too.flat\n")
    for width in (5, 6):
        (tmp_path / "run_twice_too.py").write_text(FLAT.replace("width=8", f"width={width}"))
        result = inside("distill", *words, cwd=tmp_path).result
        assert result["student"]["params"] == 64 * width + width + width * 10 + 10
        assert result["stages"]["student"]["cached"] is False


def test_a_file_that_changes_while_it_is_in_use_keeps_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_later.py").write_text("x = 1\n")
    admit(["edited_later.f"])
    assert import_module("edited_later").x == 1
    before = digest_of_source("edited_later.f")
    (tmp_path / "edited_later.py").write_text("x = 2\n")
    assert digest_of_source("edited_later.f") == before, "of what runs"
    admit(["edited_later.f"])
    assert digest_of_source("edited_later.f") != before
    assert import_module("edited_later").x == 2


# A stored network of my own code.


def test_a_stored_teacher_whose_code_has_changed_is_another_teacher_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "own_layers.py").write_text(FLAT)
    (tmp_path / "own_nets.py").write_text("from own_layers import flat  # noqa: F401\n")
    made = inside("distill", *choose(tmp_path, "own_nets.flat"), *TINY, "baseline=false", cwd=tmp_path)
    artifact = made.result["student"]["artifact"]
    words = ("teacher=artifact", f"teacher.path=outputs/{artifact}", "trusted_modules=[own_nets]", TINY[1])
    first = inside("distill", *words, "baseline=false", cwd=tmp_path)
    again = inside("distill", *words, "baseline=false", cwd=tmp_path)
    assert again.result["stages"]["soft_targets"]["cached"] is True
    warning = "the code of own_nets.flat is not what the stored weights were trained with"
    assert warning not in first.err + again.err
    (tmp_path / "own_layers.py").write_text(FLAT.replace("ReLU", "Tanh"))
    changed = inside("distill", *words, "baseline=false", cwd=tmp_path)
    assert changed.result["stages"]["soft_targets"]["cached"] is False
    assert warning in changed.err
    evaluated = inside("evaluate", f"path=outputs/{artifact}", "trusted_modules=[own_nets]", cwd=tmp_path)
    assert evaluated.status == 0
    assert warning in evaluated.err
