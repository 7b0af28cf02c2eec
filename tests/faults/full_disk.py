"""`kd distill` on disks (tmpfs) of ever other sizes, each too small for all of it: one message, nothing that bears an
artifact's name but is not whole, and the same command goes on once there is room. Needs root, which may mount.

Prints one line of a Markdown table.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from running import TINY, kd

from kd_cli.store.artifacts import open_artifact

WORDS = ("distill", *TINY, "device=cpu")
FULL = "Its disk is full. Make room there: the same command then goes on."
NONE = "No space left on device."


@contextmanager
def disk(kilobytes: int) -> Iterator[Path]:
    """A folder that is a disk of this size; PermissionError for who may not mount."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
        if subprocess.run(mount, capture_output=True).returncode:
            raise PermissionError("mounting a tmpfs is not permitted")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def whole(folder: Path) -> set[Path]:
    """The artifacts below an output folder, verified."""
    found = {path for path in folder.glob("outputs/[st]*/[0-9a-f]*") if path.parent.name != "sweeps"}
    for path in found:
        open_artifact(path)
    return found


def fill_up(kilobytes: int, needed: str) -> int:
    """One disk; returns how many artifacts were whole when it was full. `needed` is what the student should be."""
    with disk(kilobytes) as folder:
        refused = kd(*WORDS, cwd=folder)
        assert refused.status == 1, refused.err
        assert refused.err.splitlines()[-1].endswith((FULL, NONE)), refused.err
        assert "Traceback" not in refused.err
        assert "Logging error" not in refused.err
        kept = whole(folder)
        subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
        done = kd(*WORDS, cwd=folder)
        assert sum(stage["cached"] for stage in done.result["stages"].values()) == len(kept)
        assert whole(folder) >= kept
        assert not list(folder.glob("outputs/*/.*.partial"))
        assert student(folder, done.result["student"]["artifact"]) == needed
    return len(kept)


def student(folder: Path, name: str) -> str:
    """The digest of a stored student's weights."""
    manifest = json.loads((folder / "outputs" / name / "manifest.json").read_text())
    return str(manifest["files"]["model.safetensors"]["sha256"])


def roomy() -> tuple[int, str]:
    """The kilobytes that the command takes, and its student."""
    with disk(4096) as folder:
        done = kd(*WORDS, cwd=folder)
        used = subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True).stdout
        return int(used.split()[0]), student(folder, done.result["student"]["artifact"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=20)
    asked = parser.parse_args()
    print("| what | disks | whole artifacts on them when full | outcome | time |\n|---|---|---|---|---|")
    began = time.perf_counter()
    needed, expected = roomy()
    draw = random.Random(asked.seed)
    kept = [fill_up(draw.randrange(12, needed, 4), expected) for _ in range(asked.size)]
    spread = ", ".join(f"{number}: {kept.count(number)} ×" for number in sorted(set(kept)))
    outcome = "one message each, went on to the same weights"
    seconds = time.perf_counter() - began
    print(f"| a full disk | {asked.size} of 12 to {needed} kB | {spread} | {outcome} | {seconds:.0f} s |")


if __name__ == "__main__":
    main()
