"""A person's own modules: where they are found, and that what runs is what is digested.

Own is what belongs neither to Python nor to a package folder nor to kd and torch.
"""

import ast
import hashlib
import importlib
import os
import pkgutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd_cli.errors import ConfigError
from kd_cli.files.digests import digest_of
from kd_cli.progress import log

OURS = ("kd_cli", "hydra_plugins", "torch", "torchvision")  # versioned by kd and by torch: no digest of their sources
PACKAGES = {"site-packages", "dist-packages"}
PYTHONS = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


class _Source(SourceFileLoader):
    """Compiles what the file holds: a `.pyc` passes for it by time and size alone, and is neither read nor written."""

    source: bytes | None = None  # of what was compiled

    def path_stats(self, path: Any) -> Any:
        """Raises OSError: there is nothing to compare a `.pyc` with."""
        raise OSError

    def source_to_code(self, data: Any, path: Any, **options: Any) -> Any:  # type: ignore[override]
        """Return the code of `data`, which is kept for its digest."""
        self.source = bytes(data)
        return super().source_to_code(data, path, **options)


class _Finder(MetaPathFinder):
    """Finds what the finders after it find, and has own modules run from their source.

    `folder` is the current folder where it stands at the end of `sys.path` because somebody asked for it.
    """

    folder: str | None = None

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As the import system asks for it."""
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if type(spec.loader) is SourceFileLoader and _own(spec):
                    spec.loader = _Source(name, str(spec.origin))
                return spec
        return None


def admit(names: Iterable[str]) -> None:
    """Makes the modules importable that these dotted names lead to: those that are found nowhere else, from the current
    folder. Whoever calls it vouches that a person at the terminal wrote the names.

    Own modules are executed from their source from now on, and anew where it has changed since.
    """
    finder = _finder()
    if finder.folder is not None:  # for an earlier job
        with suppress(ValueError):
            sys.path.remove(finder.folder)
        finder.folder = None
    importlib.invalidate_caches()
    missing = sorted({name for name in names if not found(name)})
    with suppress(FileNotFoundError):  # the current folder may have been removed
        if missing and (here := os.getcwd()) not in sys.path:
            finder.folder = here
            sys.path.append(here)
    if finder.folder is not None and not any(map(found, missing)):
        sys.path.remove(finder.folder)
        finder.folder = None
    _forget_what_changed()


def admit_named(trains: bool, configs: Iterable[DictConfig]) -> None:
    """Admits what the person names: in a `_target_`, for a command that `trains`, and in `trusted_modules`. No other
    command runs code that lies where one stands.
    """
    names: set[str] = set()
    for cfg in configs:
        values: Any = OmegaConf.to_container(cfg, resolve=True)
        named = targets_of(values) if trains else ()
        names |= {str(name) for name in (*named, *(values.get("trusted_modules") or ()))}
    admit(name for name in names if not within(name, OURS))


def log_own_modules() -> None:
    """Logs which modules of the current folder have run."""
    folder = _finder().folder
    if folder is not None:
        ran = sorted(name for name, loader in _loaded().items() if Path(loader.path).is_relative_to(folder))
        log.info("code from the current folder: %s", ", ".join(ran))


def _finder() -> _Finder:
    for finder in sys.meta_path:
        if isinstance(finder, _Finder):
            return finder
    finder = _Finder()
    sys.meta_path.insert(sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0, finder)
    return finder


def found(name: str) -> bool:
    """Return whether a dotted name leads to a module; nothing is executed."""
    modules = _modules(name)
    return bool(modules) and modules[-1].origin is not None  # a folder without __init__.py alone is none


def targets_of(config: Any) -> Iterator[Any]:
    """Yield every `_target_` in a tree of plain values."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "_target_":
                yield value
            yield from targets_of(value)
    elif isinstance(config, list):
        for value in config:
            yield from targets_of(value)


def within(name: str, roots: Iterable[str]) -> bool:
    """Return whether a dotted name is one of `roots`, or below it."""
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def digest_of_source(target: str) -> str:
    """SHA-256 of the module that a dotted name leads to; of an own one, with all own modules that it imports."""
    modules = _modules(target.rpartition(".")[0])
    if not modules or not modules[-1].has_location:
        raise ConfigError(
            f"_target_ must be a name that can be imported, got {target!r}. Is its file in the current folder?"
        )
    if not _own(modules[-1]):
        return hashlib.sha256(_source_of(modules[-1])).hexdigest()
    with suppress(Exception):  # a package may hand on what another of its modules defines
        thing: Any = importlib.import_module(modules[-1].name)
        for word in target.removeprefix(f"{modules[-1].name}.").split("."):
            thing = getattr(thing, word)
        modules += _modules(str(thing.__module__))
    digests: dict[str, str] = {}
    while modules:
        module = modules.pop()
        if module.name in digests or not module.has_location or not _own(module):
            continue
        source = _source_of(module)
        digests[module.name] = hashlib.sha256(source).hexdigest()
        if str(module.origin).endswith(".py"):
            for name in _imported(source, str(module.parent)):
                modules += _modules(name)
    return digest_of(digests)


def _forget_what_changed() -> None:
    """Own modules are imported anew, all of them, where one is not any more what its name leads to: they may refer to
    one another. Jobs of a sweep run in one process, and each is to run the source that it is identified by.
    """
    loaded = _loaded()
    for name, loader in loaded.items():
        modules = _modules(name)
        there = modules[-1] if modules and modules[-1].name == name else None
        try:
            same = there is not None and there.origin == loader.path and Path(loader.path).read_bytes() == loader.source
        except OSError:
            same = False
        if not same:
            for each in loaded:
                sys.modules.pop(each, None)
            importlib.invalidate_caches()
            return


def _loaded() -> dict[str, _Source]:
    """The own modules that this process has run, by their names."""
    return {name: loader for name, module in list(sys.modules.items()) if (loader := _loader(module))}


def _loader(module: ModuleType | None) -> _Source | None:
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return loader if isinstance(loader, _Source) else None


def _modules(name: str) -> list[ModuleSpec]:
    """The modules that a dotted name leads through, as far as they are modules; nothing is executed."""
    words, modules, path = name.split("."), [], None
    for end, word in enumerate(words, 1):
        spec = _find(".".join(words[:end]), path) if word.isidentifier() else None
        if spec is None:
            break
        modules.append(spec)
        path = spec.submodule_search_locations
        if path is None:
            break
    return modules


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    if path is None:
        return next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, None, None))), None)
    folders: list[str] = []  # of a package without __init__.py, whose own finder would want its parent imported
    for folder in path:
        finder = pkgutil.get_importer(folder)
        spec = finder.find_spec(name, None) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        folders += (spec.submodule_search_locations or ()) if spec is not None else ()
    if not folders:
        return None
    package = ModuleSpec(name, None)
    package.submodule_search_locations = folders
    return package


def _own(module: ModuleSpec) -> bool:
    if within(module.name, OURS) or not module.has_location:
        return False
    file = Path(str(module.origin))
    if PACKAGES & set(file.parts):  # resolving takes as long as finding: not for each of torch's two thousand imports
        return False
    file = file.resolve()
    return not PACKAGES & set(file.parts) and not any(file.is_relative_to(folder) for folder in PYTHONS)


def _source_of(module: ModuleSpec) -> bytes:
    """What this process has executed, or would execute."""
    loader = _loader(sys.modules.get(module.name))
    executed = loader.source if loader is not None and loader.path == module.origin else None
    return Path(str(module.origin)).read_bytes() if executed is None else executed


@lru_cache(maxsize=1000)
def _imported(source: bytes, package: str) -> tuple[str, ...]:
    """The dotted names that a module's source imports anywhere, those of attributes among them."""
    names: list[str] = []
    with suppress(SyntaxError, ValueError, RecursionError):  # its import will say so
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                after = "" if base.endswith(".") else "."
                names += [base, *(f"{base}{after}{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                function = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                    names.append(node.args[0].value)
    absolute = []
    for name in names:
        with suppress(ImportError):  # beyond the top
            absolute.append(resolve_name(name, package) if name.startswith(".") else name)
    return tuple(absolute)
