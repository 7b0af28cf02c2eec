"""A command line as it was typed, and what the command makes of it."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, Sweep
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

from kd_cli.build.parts import owns_its_keys
from kd_cli.cli import schema
from kd_cli.cli.choices import CONFIGS
from kd_cli.cli.spelling import chosen, config_dirs, parsed, placed, sorted_out, spelt
from kd_cli.errors import KdError


@dataclass(frozen=True)
class Words:
    """What was typed after `kd <command>`."""

    command: str  # as its file is called
    words: tuple[str, ...]

    @cached_property
    def parts(self) -> tuple[list[str], list[str], list[str]]:
        """Overrides, flags, and what is neither."""
        return sorted_out(self.words)

    @property
    def name(self) -> str:
        """The command as it is typed."""
        return self.command.replace("_", "-")

    @property
    def sweeps(self) -> bool:
        """Whether several values of a key are several jobs."""
        return self.command == "sweep" or bool({"--multirun", "-m"} & set(self.parts[1]))

    @cached_property
    def own(self) -> list[Path]:
        """The person's own folders of configs."""
        return config_dirs(self.parts[1])

    def spelt(self, word: str) -> list[str]:
        """Return an override as Hydra has it."""
        return spelt(word, self.own, self._is_free(word))

    def chosen(self, word: str) -> str:
        """Return the group that an override chooses from by a bare word at a nested key, or ""."""
        return "" if self._is_free(word) else chosen(word, self.own)

    def _is_free(self, word: str) -> bool:
        """Whether the key of an override is one of somebody's own teacher, for whom its value is text."""
        key = word.partition("=")[0].lstrip("+")
        above = key.split(".")[:-1]
        if not self.own or above[:1] != ["teacher"]:
            return False
        if key not in self._free:
            self._free[key] = False  # while those are spelt that may choose the teacher
            node: Any = self.config([other for other in self.parts[0] if _depth(other) < _depth(word)])
            for k, name in enumerate(above):
                node = node.get(name) if isinstance(node, DictConfig) else None
                if isinstance(node, DictConfig) and owns_its_keys(".".join(above[: k + 1]), node):
                    self._free[key] = True
        return self._free[key]

    @cached_property
    def _free(self) -> dict[str, bool]:
        return {}

    def config(self, overrides: Sequence[str]) -> DictConfig | None:
        """Return the config with these overrides, of a sweep that of its first job; None where Hydra refuses them."""
        single = placed(self.command, [new for word in overrides for new in self.spelt(first(word))])
        search = ",".join(f"'file://{folder}'" for folder in self.own)
        try:
            with initialize_config_dir(str(CONFIGS.absolute()), version_base="1.3"):
                config: DictConfig = compose(
                    self.command, [*single, *([f"hydra.searchpath=[{search}]"] if search else [])]
                )
                return config
        except Exception:  # Hydra refuses what is odd enough by an assertion
            return None

    def accepts(self, overrides: Sequence[str]) -> bool:
        """Return whether the command takes them, as far as can be told without torch and data."""
        key = " ".join(map(repr, overrides))
        if key not in self._accepted:
            config = self.config(overrides)
            try:
                if config is not None:
                    schema.check(self.command, config)
                self._accepted[key] = config is not None
            except (KdError, OmegaConfBaseException):
                self._accepted[key] = False
        return self._accepted[key]

    @cached_property
    def _accepted(self) -> dict[str, bool]:
        return {}

    @cached_property
    def fitting(self) -> list[str]:
        """Those of the typed overrides that fit together."""
        overrides = self.parts[0]
        if self.accepts(overrides):
            return list(overrides)
        found: list[str] = []
        for word in sorted(overrides, key=_depth):  # what is chosen has keys
            if self.accepts([*found, word]):
                found.append(word)
        return found

    @cached_property
    def fault(self) -> str | None:
        """The first of the typed overrides that cannot be composed with those that it depends on."""
        found: list[str] = []
        for word in sorted(self.parts[0], key=_depth):
            if self.config([*found, word]) is None:
                return word
            found.append(word)
        return None

    @cached_property
    def known(self) -> dict[str, Any]:
        """Every dotted key that can be typed beside what fits, with its value."""
        return dict(dotted(self.config(self.fitting), ""))

    def is_list(self, word: str) -> bool:
        """Return whether the key of an override holds a list as long as nothing is typed."""
        config = self.config([other for other in self.parts[0] if other is not word])
        return isinstance(dict(dotted(config, "")).get(word.partition("=")[0]), ListConfig)

    def line(self, overrides: Sequence[str]) -> str:
        """Return the whole command line, as it can be pasted into a shell: with several values for a key it is a
        sweep's.
        """
        several = self.command == "distill" and not {"-m", "--multirun"} & set(self.parts[1])
        name = "sweep" if several and any(first(word) != word for word in overrides) else self.command.replace("_", "-")
        return shlex.join(["kd", name, *overrides, *self.parts[1]])


def _depth(word: str) -> int:
    return word.partition("=")[0].count(".")  # what is chosen has keys


def first(word: str) -> str:
    """`temperature=1` for `temperature=1,2`: what the first job of a sweep has."""
    try:
        override: Override = OverridesParser.create().parse_override(word)
        if override.is_sweep_override():
            return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()), '')}"
    except Exception:  # Hydra says itself what it cannot read
        return word
    return word


def is_sweep(word: str) -> bool:
    """Return whether an override stands for several jobs."""
    override = parsed(word)
    return override is not None and bool(override.is_sweep_override())


def swept(word: str) -> list[Any] | None:
    """Return the values of a simple sweep, `1,2`; None for anything else."""
    if (override := parsed(word)) is None:
        return None
    value = override.value()
    values = getattr(value, "list", None) if isinstance(value, Sweep) else None
    return [v.text if isinstance(v, QuotedString) else v for v in values] if values is not None else None


def dotted(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every dotted key of a config, with its value."""
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
        for key in map(str, node):
            inner = node._get_node(key)
            yield f"{prefix}{key}", inner
            yield from dotted(inner, f"{prefix}{key}.")


def matches(word: str, names: Sequence[str]) -> list[str] | None:
    """Return which of the names a sweep's `glob(…)` stands for; None for anything else."""
    if (override := parsed(word)) is None:
        return None
    value = override.value()
    return value.filter(list(names)) if isinstance(value, Glob) else None


def unreadable(word: str) -> bool:
    """Return whether Hydra cannot parse an override."""
    return parsed(word) is None
