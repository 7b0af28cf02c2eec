"""Kills `kd distill` and a small sweep outright, at random moments, and starts the same command again until it is done:
the students' weights must be those of an undisturbed run, and nothing unfinished may have been taken for whole.

    python tests/faults/kill.py [--kills 60] [--seed 0]
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KD = [str(Path(sys.executable).with_name("kd"))]
TRAINED = ["teacher.train.epochs=12", "student.train.epochs=60", "device=cpu", "checkpoint.every_epochs=1"]
VIEWS = ["augment@transfer.augment=jitter", "transfer.views=6"]
SWEEP = ["teacher.train.epochs=12", "student.train.epochs=20", "device=cpu", "checkpoint.every_epochs=1"]
COMMANDS = {
    "kd distill": ["distill", *TRAINED, *VIEWS],
    "kd sweep": ["sweep", "temperature=2,4", "seed=0,1", *SWEEP],
}
LOG = "log.txt"  # what all attempts say
KINDS = ("teachers", "soft_targets", "students")


def main() -> int:
    """Prints a line of Markdown for each command; the status is 1 where a figure is not what it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    print(
        "| command | SIGKILLs | while making | went on at a checkpoint | other weights | damaged, yet taken for whole |"
    )
    print("|---|---|---|---|---|---|")
    good = True
    for name, words in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            line, ok = _strike(name, words, asked.kills // len(COMMANDS), draw, Path(folder))
        print(line, flush=True)
        good &= ok
    return 0 if good else 1


def _strike(name: str, words: list[str], kills: int, draw: random.Random, root: Path) -> tuple[str, bool]:
    """One command's line. An attempt is killed a random time after it began to work on its first unfinished artifact:
    what starts up before is the interpreter. A finished run is removed, and begun anew, until all kills are spent.
    """
    whole, struck = root / "undisturbed", root / "struck"
    for folder in (whole, struck):
        folder.mkdir()
    started = time.perf_counter()
    process = _start(words, whole)
    _begun(process, whole)
    begun = time.perf_counter()
    if process.wait() != 0:
        raise SystemExit(f"{name} failed undisturbed: exit status {process.returncode}")
    span = time.perf_counter() - begun
    expected = _weights(whole)
    print(f"{name}: {begun - started:.1f} s to begin, {span:.1f} s of work", file=sys.stderr)

    done, places, damaged, rounds, wrong = 0, dict.fromkeys((*KINDS, "between"), 0), 0, 0, 0
    while done < kills or rounds == 0 or process.returncode != 0:
        process = _start(words, struck)
        if done < kills:
            _begun(process, struck)
            time.sleep(draw.uniform(0, span / 10))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            done += 1
            places[_place(struck)] += 1
            damaged += _damaged(struck)
            continue
        if process.returncode != 0:
            raise SystemExit(f"{name} failed after {done} kills:\n{(struck / LOG).read_text()[-2000:]}")
        rounds += 1
        damaged += _damaged(struck)
        wrong += _weights(struck) != expected
        left = list((struck / "outputs").glob("*/.*.partial"))
        if left:
            raise SystemExit(f"{name} left {left[0]}")
        if done < kills:
            shutil.rmtree(struck / "outputs")
    spread = ", ".join(f"{kind.replace('_', ' ')} {number}" for kind, number in places.items())
    gone_on = (struck / LOG).read_text().count("going on after")
    line = f"| `{name}` ({rounds} runs) | {done} | {spread} | {gone_on} | {wrong} of {rounds} | {damaged} |"
    return line, wrong == damaged == 0 < gone_on


def _start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    for owner in (folder / "outputs" / ".locks").glob("*.owner"):
        owner.unlink()  # of one that was killed
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen([*KD, *words], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def _begun(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Waits until it holds the lock of an artifact (a sweep holds its own before), or has ended."""
    locks = folder / "outputs" / ".locks"
    while process.poll() is None and not any(list(locks.glob(f"{kind}-*.owner")) for kind in KINDS):
        time.sleep(0.005)


def _place(folder: Path) -> str:
    """What was being made at the end."""
    for kind in KINDS:
        if list((folder / "outputs" / kind).glob(".*.partial")):
            return kind
    return "between"


def _weights(folder: Path) -> dict[str, str]:
    """Digest of the weights of every student and teacher."""
    found = sorted((folder / "outputs").glob("[st]*/[0-9a-f]*/model.safetensors"))
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def _damaged(folder: Path) -> int:
    """How many of the folders that bear an artifact's name are not what their manifest says."""
    bad = 0
    for kind in KINDS:
        for artifact in (folder / "outputs" / kind).glob("[0-9a-f]*"):
            try:
                files = json.loads((artifact / "manifest.json").read_text())["files"]
                sound = all(
                    hashlib.sha256((artifact / name).read_bytes()).hexdigest() == entry["sha256"]
                    for name, entry in files.items()
                ) and {path.name for path in artifact.iterdir()} == {*files, "manifest.json"}
            except (OSError, ValueError, KeyError):
                sound = False
            bad += not sound
    return bad


if __name__ == "__main__":
    sys.exit(main())
