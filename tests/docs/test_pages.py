"""The pages: their commands run as they stand, the reference leaves nothing out, and README stays short."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from running import KD, TINY, environment, inside

from kd_cli.build.trust import DATASETS, MODELS
from kd_cli.cli.choices import CONFIGS
from kd_cli.cli.manual import commands

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]+) -->\n)?"
    r"```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str
    reason: str  # why it is not run


def blocks(page: Path) -> Iterator[Block]:
    for found in FENCE.finditer(page.read_text()):
        yield Block(*(found[name] or "" for name in ("language", "title", "text", "reason")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would sit: what one page made is found by the next."""
    return tmp_path_factory.mktemp("reader")


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, *TUTORIALS], ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, folder: Path) -> None:
    ran = 0
    for block in blocks(page):
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text)
    script = "".join(block.text for block in blocks(page) if block.language == "bash" and not block.reason)
    ran = script.count("kd ")
    assert ran, "a page without a command"
    path = f"{KD.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("page", [README, *TUTORIALS], ids=lambda page: page.stem)
def test_every_command_stands_in_a_block_that_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        if re.search(r"^(\$ )?(kd|make|pip|python) ", block.text, re.MULTILINE):
            assert block.language == "bash", block.text
    lines = page.read_text().splitlines()
    assert len([line for line in lines if line.startswith("```")]) == 2 * len(list(blocks(page)))


def test_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 140
    assert len(text.split()) <= 1000


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=lambda page: page.stem)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert (ROOT / target).exists(), target


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kd_reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def pages() -> dict[str, str]:
    return generator().pages()


@cache
def rows(page: str) -> dict[str, str]:
    """The last cell of every row of a page's tables, by the first, which is in code."""
    lines = pages()[f"reference/{page}.md"].splitlines()
    cells = [re.split(r"(?<!\\)\|", line.strip("| ")) for line in lines if line.startswith("| `")]
    return {found[0].strip(" `"): found[-1].strip() for found in cells}


def dotted(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if key not in ("_target_", "_partial_"):
            yield from dotted(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]


@pytest.mark.parametrize("command", commands())
def test_every_key_of_a_command_is_in_the_reference_with_its_meaning(command: str, tmp_path: Path) -> None:
    words = ["path=x", "images=x"] if command in ("evaluate", "predict") else []
    words = [word for word in words if command == "predict" or word == "path=x"]
    words += ["sweep=x"] if command == "summarize" else []
    done = inside(command, *words, "--cfg", "job", cwd=tmp_path)
    assert done.status == 0, done.err
    for key in dotted(yaml.safe_load(done.out)):
        if not key.startswith("objective."):  # set by temperature, soft_weight and hard_weight
            assert rows(command).get(key), key


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_choice_and_its_keys_are_in_the_reference(path: Path) -> None:
    text = pages()["reference/choices.md"]
    if path.parent.name == "experiment":
        return
    section = next(part for part in text.split("\n## ")[1:] if part.startswith(f"{path.parent.name}\n"))
    assert f"\n| `{path.stem}` | " in section
    own = {key for key in yaml.safe_load(path.read_text()) if key not in ("defaults", "_target_", "_partial_")}
    for key in own if path.parent.name != "student" else ():
        assert re.search(rf"^\| `{key}` \| [^|]*\w", section, re.MULTILINE), key


def test_the_refusals_are_those_of_the_code(tmp_path: Path) -> None:
    found = {(key.strip("`"), rule): remedy for key, rule, remedy in generator().refusals()}
    assert ("temperature", "a number &gt; 0") in found
    assert ("….train.epochs", "a whole number ≥ 1") in found
    said = inside("distill", "temperature=0", cwd=tmp_path).err
    assert said.startswith("temperature must be a number > 0, got 0")
    assert len(found) > 50


def test_every_key_of_a_manifest_is_described(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "files.md").read_text()
    section = page.partition("## manifest.json")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    described = [key for cell in cells for key in re.findall(r"`(\w+)`", cell)]
    assert inside("distill", *TINY, "targets.top_k=3", cwd=tmp_path).status == 0
    manifests = list((tmp_path / "outputs").glob("*/*/manifest.json"))
    assert len(manifests) == 4
    for path in manifests:
        assert set(json.loads(path.read_text())) <= set(described)


def test_no_class_is_described_twice() -> None:
    classes = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference" / "python.md").read_text(), re.MULTILINE)
    assert len(set(classes)) == len(classes) > 5


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/explanation/promises.md"])
def test_what_a_stored_config_may_name_is_said(page: str) -> None:
    text = (ROOT / page).read_text()
    for module in (*MODELS, *DATASETS):
        assert f"`{module}`" in text, module


@pytest.mark.slow
def test_the_pages_build_strictly_and_fetch_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install 'kd-distill[docs]'")
    pytest.importorskip("material", reason="pip install 'kd-distill[docs]'")
    site = tmp_path / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, env=environment(NO_MKDOCS_2_WARNING="1"))
    assert done.returncode == 0, done.stderr
    for page in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]* src=\"([^\"]*)\"", page.read_text())
        fetched += re.findall(r"<link[^>]* href=\"([^\"]*)\"", page.read_text())
        assert not [url for url in fetched if re.match(r"(https?:)?//", url)], page
    for sheet in (*site.rglob("*.css"), *site.rglob("*.svg")):
        assert not re.search(r"(url\(|@import )['\"]?(https?:)?//", sheet.read_text()), sheet
