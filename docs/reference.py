"""The reference, made of what the code reads itself: the schema, the YAML files and their comments, the refusals."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kd_cli import ranges
from kd_cli.cli.choices import choices
from kd_cli.cli.help import sections
from kd_cli.cli.manual import Key, about, choice, commands, manual
from kd_cli.errors import KdError

PACKAGE = Path(__file__).parents[1] / "kd_cli"
GROUPS = {
    "dataset": "What teacher and student are trained and tested on.",
    "teacher": "The large model, with its recipe where it is trained here.",
    "student": "The small model, with its recipe.",
    "objective": "The loss that teaches the student.",
    "augment": "What is done to the samples: `transfer.augment`, `teacher.augment`.",
    "model": "A network: `student.model`, `teacher.model`.",
    "recipe": "How a network is trained: `student.train`, `teacher.train`.",
    "optimizer": "`student.train.optimizer`, and the same with `teacher`.",
    "scheduler": "Of the learning rate: `student.train.scheduler`, and the same with `teacher`.",
    "normalisation": "The mean and standard deviation of a data set's pixels.",
    "train": "What a recipe says beyond its own numbers.",
    "experiment": "Whole experiments: see the [gallery](../gallery.md).",
}


def pages() -> dict[str, str]:
    """Return every generated page of the reference, by its path below docs/."""
    found = {f"reference/{name}.md": command_page(name) for name in commands()}
    found["reference/commands.md"] = _commands()
    found |= {"reference/choices.md": _choices(), "reference/refusals.md": _refusals()}
    return found


def _commands() -> str:
    rows = ((f"[`kd {name}`]({name}.md)", text) for name, text in commands().items())
    return "\n".join(
        [
            "# Commands",
            "",
            "`kd <command> [key=value …]`: a command is a file of `configs/`, everything else is a key of it.",
            "`kd <command> --help` prints the page of a command, for what is chosen on the line.",
            "",
            *_table(("command", "what it does"), rows),
            "",
            "Beside them, `kd completion bash|zsh|fish` prints what `eval` makes a completion of, and `kd --version` "
            "the version. Hydra's flags are those of every Hydra program: `--cfg job`, `--info`, `--multirun`, "
            "`--config-dir`, `--hydra-help`.",
            "",
            "Run commands print the run folder's path alone on standard output; tables, progress and logs go to "
            "standard error. Commands that answer a question (`list`, `evaluate`, `predict`, `clean`) print their "
            "answer on standard output. The exit status is 0 only when everything asked for was done.",
            "",
        ]
    )


def command_page(name: str) -> str:
    """Return the page of a command: every key with its default and meaning, in the sections of its help."""
    keys = manual(name.replace("-", "_"), {})
    lines = [f"# kd {name}", "", commands()[name], ""]
    if any(key.name == "teacher" for key in keys):
        lines += ["Keys and defaults are those of the default choices; [another choice](choices.md) brings others.", ""]
    for title, group in sections(keys).items():
        lines += [f"## {title}", "", *_keys(group), ""]
    return "\n".join(lines)


def _choices() -> str:
    lines = [
        "# Choices",
        "",
        "What can be chosen, and the keys that come with it. A key is written behind the place of ",
    ]
    lines[-1] += "the choice: `root` of a data set is `dataset.root`, `epochs` of a recipe `student.train.epochs`."
    for group, text in GROUPS.items():
        lines += ["", f"## {group}", "", text, ""]
        lines += choices_of(group) if group != "experiment" else []
    return "\n".join([*lines, ""])


def choices_of(group: str) -> list[str]:
    """Return two tables: what the keys of a group mean, and its choices with their values."""
    meanings: dict[str, str] = {}
    rows = []
    for name in choices(group):
        keys = choice(group, name)
        nested = tuple(f"{key.name}." for key in keys if key.group)
        own = [key for key in keys if not key.name.startswith(nested)]
        meanings |= {key.name: meanings.get(key.name) or key.meaning for key in own}
        values = " ".join(f"`{key.name}={key.default}`" for key in own)
        rows.append((f"`{name}`", _prose(about(group, name)), values))
    return [
        *_table(("key", "meaning"), ((f"`{key}`", _prose(text)) for key, text in meanings.items())),
        "",
        *_table(("choice", "what it is", "its values"), rows),
    ]


def _keys(keys: Iterable[Key]) -> list[str]:
    rows = [(f"`{key.name}`", f"`{key.default}`", _prose(key.meaning)) for key in keys]
    return _table(("key", "default", "meaning"), rows) if rows else []


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [headings, ("---",) * len(headings), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _prose(text: str) -> str:
    """Return text with what Markdown would read as a tag in code."""
    return re.sub(r"(?<!`)(<[\w /]+>|\$\{[^}]*\}|\S*[@_]\S*\w)(?!`)", r"`\1`", text)


def _refusals() -> str:
    lines = [
        "# Refusals",
        "",
        "A wrong input prints one message, `<key> must be <rule>, got <value>`, and what to do, without a traceback "
        "(`KD_TRACEBACK=1` shows it), and ends with status 1. These are the ones that stand in the code; `<…>` "
        "stands for what is filled in.",
        "",
        "## By key",
        "",
        *_table(("key", "must be", "what to do"), sorted(set(refusals()), key=lambda row: ("<" in row[0], row))),
        "",
        "## In other words",
        "",
        "What is wrong with a file, a data set, a stored artifact or a training:",
        "",
        *_table(("kind", "what is said"), sorted(set(told()))),
        "",
    ]
    return "\n".join(lines)


def refusals() -> Iterator[tuple[str, str, str]]:
    """Yield key, rule and remedy of every refusal of a value in the package: calls of `must` and of `ranges`."""
    for call, known in _calls():
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name == "must" and len(call.args) > 2:
            cells = [_text(argument, known) for argument in (*call.args[:2], *call.args[3:4])]
            key, rule, remedy = [*cells, ""][:3]
        elif name in ("number", "whole_number") and len(call.args) + len(call.keywords) > 2:
            key, rule, remedy = _range(getattr(ranges, name), call, known)
        else:
            continue
        remedy = "" if re.fullmatch(r"<\w+>", remedy) else remedy
        if not re.fullmatch(r"<\w+>", rule) and not (re.fullmatch(r"<\w+>|\W*", key) and "<what>" in rule):
            yield f"`{f'…{key}' if key.startswith('.') else key}`", _escaped(rule), _escaped(remedy.replace("{}", key))


def _range(refuse: Callable[..., None], call: ast.Call, known: dict[str, str]) -> tuple[str, str, str]:
    """Return what `ranges` says of a value that is none: it words its own rules."""
    key = _text(call.args[0], known)
    bounds = {each.arg or "": _bound(each.value, known) for each in call.keywords}
    try:
        refuse(key, object(), *(_bound(each, known) for each in call.args[2:]), **bounds)
    except KdError as error:
        return key, error.rule, error.remedy
    raise AssertionError(f"{ast.unparse(call)} refuses nothing")


def _bound(node: ast.expr, known: dict[str, str]) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return _text(node, known)


def told() -> Iterator[tuple[str, str]]:
    """Yield the class and the words of every error that is not about one key."""
    for call, known in _calls():
        name = getattr(call.func, "id", "")
        if re.fullmatch(r"(Config|Data|Artifact|Unreadable|Training|Foreign)Error", name) and call.args:
            text = " ".join(_text(argument, known) for argument in call.args[:2])
            if re.search(r"[a-z]{2,} ", text):
                yield name.removesuffix("Error").lower().replace("config", "key"), _escaped(text)


def _calls() -> Iterator[tuple[ast.Call, dict[str, str]]]:
    """Yield every call in the package, with the texts, numbers and lists that its module names or imports by name."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    constants = {_module(path): dict(_constants(tree)) for path, tree in trees.items()}
    for path, tree in trees.items():
        known = dict(constants[_module(path)])
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                there = constants.get(str(node.module), {})
                known |= {each.asname or each.name: there[each.name] for each in node.names if each.name in there}
                modules = (constants.get(f"{node.module}.{each.name}", {}) for each in node.names)
                known = {name: text for module in modules for name, text in module.items()} | known
        yield from _calls_in(tree, known)


def _calls_in(node: ast.AST, known: dict[str, str]) -> Iterator[tuple[ast.Call, dict[str, str]]]:
    """Yield the calls in a tree; those in a loop over words that are written out there once for each of them."""
    if isinstance(node, ast.Call):
        yield node, known
    rounds = [known]
    if isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple | ast.List):
        rounds = [known | _words(node.target, each) for each in node.iter.elts]
    for each_known in rounds:
        for child in ast.iter_child_nodes(node):
            yield from _calls_in(child, each_known)


def _words(target: ast.expr, value: ast.expr) -> dict[str, str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=False)
        return {name: text for pair in pairs for name, text in _words(*pair).items()}
    return {target.id: str(value.value)} if isinstance(target, ast.Name) and isinstance(value, ast.Constant) else {}


def _module(path: Path) -> str:
    return ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(target, ast.Name) or not node.value:
            continue
        try:
            value = ast.literal_eval(node.value)
        except ValueError:
            continue
        if isinstance(value, str | int | float):
            yield target.id, f"{value:,}" if isinstance(value, int) else str(value)
        elif isinstance(value, tuple | dict) and all(isinstance(each, str) for each in value):
            yield target.id, ", ".join(value)


def _text(node: ast.expr, known: dict[str, str]) -> str:
    """Return an expression as a message shows it; what is only known when it runs as `<expression>`."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, known)
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    if name in known:
        return known[name]
    if isinstance(node, ast.IfExp):
        return " / ".join(part for part in (_text(node.body, known), _text(node.orelse, known)) if part)
    if isinstance(node, ast.BinOp) and not isinstance(getattr(node.right, "value", ""), int):
        return _text(node.left, known) + _text(node.right, known)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join" and node.args:
        return _text(node.args[0], known)
    words = re.findall(r"[A-Za-z]\w*", ast.unparse(node))
    return f"<{words[-1].strip('_') if words else 'value'}>"


def _escaped(text: str) -> str:
    return re.sub(r"[<>*_`\[\]{}]", r"\\\g<0>", text.replace("\n", " ")).replace("\\<", "&lt;").replace("\\>", "&gt;")
