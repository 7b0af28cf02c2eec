"""The list of mutants fits the code: each can still be made, and its tests are there."""

import ast
from pathlib import Path

import pytest
from curated import ROOT, Mutant, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: f"{Path(mutant.file).stem} {mutant.after[:40]}")
def test_a_mutant_can_be_made_and_its_tests_are_there(mutant: Mutant) -> None:
    assert mutant.before != mutant.after
    compile(mutant.made_in(ROOT), mutant.file, "exec")
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        known = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not name or name.partition("[")[0] in known


def test_there_are_many_and_all_differ() -> None:
    assert len(set(mutants())) == len(mutants()) >= 120
