"""Makes each mutant in a copy of the tree, and runs there the tests that must notice it: a page on standard output.

Each copy is proven to be what runs, the installed command included, and its tests to pass before anything is changed.
A process imports the libraries once and forks for each mutant: most take less than a second.
"""

import argparse
import contextlib
import importlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from curated import ROOT, Mutant, mutants

LIBRARIES = ("torch", "torchvision", "hydra", "sklearn.cluster", "scipy.optimize", "rich.console", "pytest")
LONGEST = 900  # seconds: a test that does not end does not pass
copy = ROOT  # of the tree, in a worker


@dataclass(frozen=True)
class Verdict:
    """`status` is pytest's (0 passed, 1 failed), or None where the tests did not end; `by` the first that failed."""

    status: int | None
    by: str
    said: str
    seconds: float


def start(below: str) -> None:
    """Makes the worker's copy, from which Python and the installed command import from now on, and proves it."""
    global copy
    copy = Path(tempfile.mkdtemp(dir=below)) / "kd"
    everywhere = shutil.ignore_patterns(".*", "__pycache__", "outputs")
    made = {"data", "dist", "build"}  # beside the sources; below them, these names are packages
    shutil.copytree(ROOT, copy, ignore=lambda at, names: {*everywhere(at, names), *(made if Path(at) == ROOT else ())})
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "TMPDIR": str(copy.parent)}
    tempfile.tempdir = None
    sys.path.insert(0, str(copy))
    package = copy / "kd_cli" / "__init__.py"
    with changed(package, re.sub('__version__ = "', '__version__ = "mutated-', package.read_text("utf-8"))):
        command = Path(sys.executable).with_name("kd")
        said = subprocess.run([str(command), "--version"], capture_output=True, text=True, check=True).stdout
        assert said.startswith("kd mutated-"), f"{command} runs another copy: {said}"
    for library in LIBRARIES:
        importlib.import_module(library)


@contextlib.contextmanager
def changed(path: Path, text: str) -> Iterator[None]:
    """The file with another text, meanwhile. Its time differs too: no bytecode of the original serves for it."""
    before, times = path.read_text("utf-8"), path.stat()
    path.write_text(text, "utf-8")
    try:
        yield
    finally:
        path.write_text(before, "utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


class First:
    """Notes the first test that fails."""

    def __init__(self, into: Path) -> None:
        self.into = into

    def pytest_runtest_logreport(self, report: object) -> None:
        """Called by pytest."""
        if report.failed and not self.into.exists():  # type: ignore[attr-defined]
            self.into.write_text(report.nodeid, "utf-8")  # type: ignore[attr-defined]


def verdict_of(tests: tuple[str, ...], keep_bytecode: bool = False) -> Verdict:
    """Runs tests in a fork of this process, in its copy."""
    began, said, by = time.monotonic(), copy.parent / "said.txt", copy.parent / "by.txt"
    by.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.dont_write_bytecode = not keep_bytecode
            os.environ |= {} if keep_bytecode else {"PYTHONDONTWRITEBYTECODE": "1"}
            import pytest

            import kd_cli

            assert Path(kd_cli.__file__).is_relative_to(copy)
            calm = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
            status = int(pytest.main([*calm, *tests], plugins=[First(by)]))
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(status)
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() - began < LONGEST:
        time.sleep(0.02)
    if ended[0] == 0:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(ended[1]) if ended[0] else None
    first = by.read_text("utf-8") if by.exists() else ""
    return Verdict(status, first, said.read_text("utf-8", "replace"), time.monotonic() - began)


def sane(tests: tuple[str, ...]) -> Verdict:
    """The same tests in the copy as it is."""
    return verdict_of(tests, keep_bytecode=True)


def judged(mutant: Mutant) -> Verdict:
    """What its tests make of a mutant."""
    with changed(copy / mutant.file, mutant.made_in(copy)):
        return verdict_of(mutant.tests)


def main() -> int:
    """Prints the page; 1 where a mutant lived without an excuse."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--only", default="", help="mutants whose file or text holds this")
    asked.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = asked.parse_args()
    chosen = [each for each in mutants() if options.only in f"{each.file} {each.before} {each.after}"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as below:
        forked = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(options.workers, forked, start, (below,)) as pool:  # whose processes may have children
            tests = sorted({test for each in chosen for test in each.tests})
            shares = [tuple(tests[k :: options.workers]) for k in range(options.workers)]
            for verdict in pool.map(sane, [share for share in shares if share]):
                if verdict.status != 0:
                    print(f"The tests do not pass before anything is changed:\n\n{verdict.said}")
                    return 1
            verdicts = []
            for mutant, verdict in zip(chosen, pool.map(judged, chosen), strict=True):
                verdicts.append((mutant, verdict))
                print(f"{mutant.file}: {verdict.status} {verdict.by}", file=sys.stderr)
    living = [(m, v) for m, v in verdicts if v.status not in (1, None)]
    print(
        f"{len(chosen)} mutants, {len(chosen) - len(living)} noticed, {sum(bool(each.why) for each, _ in living)} "
        f"explained; {time.monotonic() - began:.0f} s with {options.workers} at a time. Before, the unmutated "
        f"copies passed all {len(tests)} tests that are named, and ran as the installed command."
    )
    for mutant, verdict in living:
        print(f"\n**Lives** ({verdict.status}): `{mutant.file}`, {mutant.before!r} → {mutant.after!r}. {mutant.why}")
        if verdict.status != 0:
            print(f"\n```\n{verdict.said[-2000:]}\n```")
    print("\n| file | mutants | noticed by |\n|---|---|---|")
    for file, group in groupby(verdicts, key=lambda pair: pair[0].file):
        pairs = list(group)
        by = dict.fromkeys(re.sub(r"^tests/|\[.*", "", verdict.by) for _, verdict in pairs if verdict.by)
        print(f"| {file} | {len(pairs)} | {', '.join(f'`{name}`' for name in by)} |")
    return 1 if any(not mutant.why for mutant, _ in living) else 0


if __name__ == "__main__":
    sys.exit(main())
