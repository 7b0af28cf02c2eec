"""The rules for the keys that people type: checked before torch is imported. `keys` has their types and defaults."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd_cli.build.parts import members, owns_its_keys
from kd_cli.cli import resolvers, rules
from kd_cli.cli.choices import choices
from kd_cli.cli.keys import SCHEMAS, keys
from kd_cli.errors import ConfigError, Phrase, did_you_mean, first_line, must
from kd_cli.ranges import is_number, number, whole_number

DEVICES = ("auto", "cpu", "cuda", "mps")
BUDGETS = ("short", "full")
DTYPES = ("float16", "float32")
KNOWN = {  # others have a _target_ that refuses
    "student": ("model", "train"),
    "transfer": ("dataset", "labels", "fraction", "omit_classes", "only_classes", "augment", "views", "seed"),
    "targets": ("dtype", "top_k", "temperatures"),
}
BIAS_CORRECTIONS = ("prior", "oracle")
FORMATS = {"evaluate": ("table", "json", "csv"), "predict": ("csv", "json"), "list": ("table", "json", "csv")}
GROUPS = ("dataset", "teacher", "model", "augment", "optimizer", "scheduler")  # fill a mapping inside another
QUOTE = "A shell replaces an unquoted ${…}: quote it, as in 'teacher.seed=${seed}'."


def register() -> None:
    """Makes schemas and resolvers known to Hydra; a command's YAML starts from `<command>_schema`."""
    resolvers.register_resolvers()
    store = ConfigStore.instance()
    for name, node in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=node)


def slug(text: str) -> str:
    """Return a folder's name of `[A-Za-z0-9._-]`; what had to be replaced is told apart by a digest."""
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", text)[:100] or "job"
    return clean if clean in (text, "job") else f"{clean}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def check(command: str, cfg: DictConfig) -> None:
    """Refuses what no command accepts; raises ConfigError for the first key that is wrong."""
    try:
        OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise must(str(error.full_key or "A value"), "one that can be resolved", first_line(error), QUOTE) from error
    values = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(values, dict)
    for key in values:
        if key not in keys(command):  # `+epochs=5`
            raise must(str(key), f"a key of kd {command.replace('_', '-')}", str(key))
    if command == "evaluate" and not values["dataset"]:
        del values["dataset"]
    for path, group in _mappings(values):
        _refuse_word(path, group, OmegaConf.select(cfg, path))
    for top, known in KNOWN.items():
        node = values.get(top)
        for key in node if isinstance(node, dict) else ():
            if key not in known:
                raise must(top, f"a mapping of {', '.join(known)}", key, did_you_mean(str(key), known))
    if values.get("output_dir") == "":
        raise must("output_dir", "the name of a folder", "")
    if not re.fullmatch(r"cuda:\d+", str(values.get("device"))):
        _choice("device", (*DEVICES, "cuda:<number>"), values.get("device"))
    _choice("precision", rules.PRECISIONS, values.get("precision"))
    _choice("bias_correction", BIAS_CORRECTIONS, values.get("bias_correction"))
    if values.get("bias_correction") == "oracle" and not _filters(values.get("transfer")):
        hint = "It shifts the classes that these name."
        raise must("bias_correction", "prior or null without transfer.omit_classes or only_classes", "oracle", hint)
    _choice("budget", BUDGETS, values.get("budget"))
    if "targets" in values:
        _choice("targets.dtype", DTYPES, cfg.targets.dtype)
    if "checkpoint" in values:
        whole_number("checkpoint.every_epochs", cfg.checkpoint.every_epochs, 1, null=True)
        number("checkpoint.every_minutes", cfg.checkpoint.every_minutes, above=0, null=True)
    if command in FORMATS:
        _choice("format", FORMATS[command], values.get("format"))
    if "temperature" in values:
        number("temperature", cfg.temperature, above=0)
    for key in ("soft_weight", "hard_weight"):
        if key in values:
            number(key, cfg[key], at_least=0)
    if values.get("soft_weight") == values.get("hard_weight") == 0:
        raise must("soft_weight or hard_weight", "> 0", 0, "With both zero there is nothing to learn from.")
    if "transfer" in values and OmegaConf.select(cfg, "transfer.views") is not None:
        whole_number("transfer.views", cfg.transfer.views, 1)
    if "seed" in values:
        _seed("seed", cfg.seed)
    for top in ("teacher", "teacher.generalist", "transfer", "dataset"):
        node = OmegaConf.select(cfg, top)
        if isinstance(node, DictConfig) and "seed" in node and not owns_its_keys(top, node):
            _seed(f"{top}.seed", node.seed)
    for path, group in _mappings(values):
        node = OmegaConf.select(cfg, path)
        if group == "train" and node.get("_target_") == "kd_cli.train.recipe.Recipe":
            rules.recipe(path, node)


def _seed(key: str, value: Any) -> None:
    """What a shell has emptied is no number."""
    whole_number(key, value, 0, remedy="" if is_number(value) else QUOTE)


def _filters(transfer: Any) -> bool:
    chosen = transfer if isinstance(transfer, dict) else {}
    return any(chosen.get(key) for key in ("omit_classes", "only_classes"))


def _refuse_word(path: str, group: str, value: Any) -> None:
    """A word that names no file of the group would silently stay a word: `student.model=cnnn`."""
    if isinstance(value, DictConfig) or (value is None and group in ("augment", "dataset")):
        return
    group = "recipe" if group == "train" else group
    there = choices(group)
    if value in there:  # quoted, or in a YAML
        hint = f"It names a file as {path}={value} on the command line, and as `/{group}@{path}: {value}` in defaults."
        raise must(path, "a mapping", value, hint)
    if value is None:
        raise must(path, f"one of {', '.join(there)}", Phrase("null"))
    raise must(path, f"one of {', '.join(there)}", value, did_you_mean(str(value), there))


def _choice(key: str, choices: tuple[str, ...], value: Any) -> None:
    if value is not None and value not in choices:
        raise must(key, f"one of {', '.join(choices)}", value)


def _mappings(values: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    """Paths that hold a mapping, each with the config group that fills it."""
    nodes = {top: values.get(top) for top in ("dataset", "teacher", "student", "transfer", "objective")}
    teacher: Any = nodes["teacher"]
    for path in members(teacher) if isinstance(teacher, dict) else ():
        yield f"teacher.{path}", "teacher"
        kind, _, name = path.partition(".")
        nodes[f"teacher.{path}"] = teacher[kind][name] if name else teacher[kind]
    for top, node in nodes.items():
        if not isinstance(node, dict) or (node and owns_its_keys(top, node)):
            continue
        if not node:
            raise ConfigError(f"{top} must be given: {top}=….")
        train = node.get("train")
        yield from ((f"{top}.{group}", group) for group in ("dataset", "model", "augment", "train") if group in node)
        augment = node.get("augment")
        if isinstance(augment, dict) and "inner" in augment:
            yield f"{top}.augment.inner", "augment"
        if isinstance(train, dict):
            yield from ((f"{top}.train.{group}", group) for group in ("optimizer", "scheduler") if group in train)
