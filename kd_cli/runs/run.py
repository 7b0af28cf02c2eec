"""One run's folder: what result.json says of it while it runs and when it ends."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd_cli.errors import ConfigError, must
from kd_cli.files import typed_json
from kd_cli.progress import log
from kd_cli.runs.result import Result, Stage
from kd_cli.screen import as_utf8
from kd_cli.store import run_folder
from kd_cli.store.artifacts import Artifact, Store
from kd_cli.store.format import expect_format
from kd_cli.store.inventory import KINDS, note_use, settled
from kd_cli.store.models import precision_of


class Run:
    """The record of a run: which artifact each of its stages gave, and in which precision it was computed."""

    def __init__(self, folder: Path, root: Path, rebuild: bool) -> None:
        self.folder, self.root = folder, root.absolute()
        if any("\ud800" <= letter <= "\udfff" for letter in as_utf8(str(self.root))):
            hint = "Files of tensors cannot be opened elsewhere: give another output_dir=<folder>."
            raise must("output_dir", "a folder whose whole path is UTF-8", str(self.root), hint)
        expect_format(self.root)
        self.store = Store(self.root, rebuild, self.uses)
        self.used: list[str] = []
        self.stages: dict[str, Stage] = {}
        self.precision: dict[str, str] = {}  # of each stage, as it was computed
        self.identities: dict[str, str] = {}  # of what each stage gave or was given

    def accept(self, asked: dict[str, Any], given: Mapping[str, tuple[Path | None, str]]) -> None:
        """Everything that was typed has been checked: from now on a failure is a failed run, not a wrong input.

        `asked` is what result.json says of the input. `given`, by their keys, are the folders of the stored models
        that it begins from, None for files, each with what tells its weights from others.
        """
        elsewhere = not self.folder.resolve().is_relative_to(self.root.resolve())
        where = {"output_dir": str(self.root)} if elsewhere else {}  # else all of it may be moved together
        run_folder.mark_accepted(self.folder, asked | where)
        for key, (folder, content) in given.items():
            if folder is not None:
                self.uses(folder)
            self.identities[key] = content

    def finish(self, **found: Any) -> Result:
        """Return the run has done all that was asked, and this is what it found; return its whole result."""
        about = {"stages": self.stages, "identities": self.identities, "status": "completed"}
        result = Result.of((run_folder.read(self.folder) or {}) | typed_json.to_json(found | about))
        run_folder.update(self.folder, result.to_json())
        return result

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[Artifact | str | None, bool], None]]:
        """Time a stage; the caller says which artifact it gave (or the name of a teacher from elsewhere), and whether
        that was there already.
        """
        started = time.perf_counter()
        self.stages[name] = Stage(seconds=0.0, cached=False, artifact=None)

        def done(artifact: Artifact | str | None, cached: bool) -> None:
            if not isinstance(artifact, Artifact):
                self.stages[name] = Stage(seconds=0.0, cached=cached, artifact=artifact)
                return
            about = artifact.manifest.get("batch_statistics") or None
            where = self.name(artifact.folder)
            self.stages[name] = Stage(seconds=0.0, cached=cached, artifact=where, batch_statistics=about)
            self.identities[name] = artifact.content
            self.precision[name] = precision_of(artifact)

        yield done
        stage = replace(self.stages[name], seconds=round(time.perf_counter() - started, 3))
        self.stages[name] = stage
        run_folder.update(self.folder, {"stages": typed_json.to_json(self.stages)})
        if stage.artifact:
            how = "found in" if stage.cached else f"done in {stage.seconds:.1f} s:"
            inside = self.root / stage.artifact
            where = os.path.relpath(inside) if inside.exists() else stage.artifact
            log.info("%s: %s %s", name.replace("_", " "), how, where)

    def uses(self, folder: Path) -> None:
        """Say in result.json that the run uses an artifact, before it is looked for: `kd clean` then keeps it. Where
        the run's folder lies elsewhere, the artifact's output folder is told.
        """
        name, kind, store = self.name(folder), folder.parent.name, folder.absolute().parent.parent
        if name in self.used:
            return
        self.used.append(name)
        kept_there = store == self.root or kind in KINDS  # else somebody's folder, where kd has nothing to leave
        try:
            with settled(store) if kept_there else nullcontext():
                run_folder.update(self.folder, {"artifacts": self.used})
                if kept_there and not self.folder.resolve().is_relative_to(store.resolve()):
                    note_use(store, self.folder.resolve(), self.used)
        except ConfigError as error:
            if store == self.root:
                raise
            run_folder.update(self.folder, {"artifacts": self.used})
            log.info("%s is used by this run, but that cannot be noted there: %s", name, error)

    def name(self, folder: Path) -> str:
        """Return a folder as result.json names it: below the output folder where it is there, in full elsewhere."""
        folder = folder.absolute()
        return folder.relative_to(self.root).as_posix() if folder.is_relative_to(self.root) else str(folder)
