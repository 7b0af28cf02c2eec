"""One name for one thing: whoever reads a class or a function by its name alone knows which is meant."""

import ast
from collections import defaultdict
from pathlib import Path

import kd_cli

KINDS = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
COMMANDS = "main"  # what each command's module has, and is found by
MODELS = "resolved"  # what a model's module has that reads files, and is found by


def test_no_two_public_classes_or_functions_have_one_name() -> None:
    places = defaultdict(list)
    root = Path(kd_cli.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, KINDS) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(root)))
    assert len(places) > 300
    commands = places.pop(COMMANDS)
    assert all(Path(place).parts[0] == "commands" or place == "cli/main.py" for place in commands)
    assert all(Path(place).parts[0] == "models" for place in places.pop(MODELS))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
