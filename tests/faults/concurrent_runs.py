"""Many processes of one command on one output folder, and a lock whose holder was killed: `--size` processes.

Prints one line of a Markdown table: what, how often, what was made, seconds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from running import KD, TINY, environment

ROLES = ("teacher", "student", "baseline")


def run_together(folder: Path, processes: int, *words: str) -> list[dict[str, Any]]:
    """Starts `kd distill` so many times at once; returns the results. AssertionError unless all are equal and each
    artifact was made by one process.
    """
    command = [str(KD), "distill", *TINY, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, cwd=folder, env=environment(), **pipes) for _ in range(processes)]
    told = [process.communicate(timeout=600) for process in started]
    for process, (_, err) in zip(started, told, strict=True):
        assert process.returncode == 0, err
        assert "Traceback" not in err, err
    runs = [Path(out.rstrip("\n")) for out, _ in told]
    assert len(set(runs)) == processes, "every run has a folder of its own"
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    for stage in ("teacher", "soft_targets", "student", "baseline"):
        artifacts = {result["stages"][stage]["artifact"] for result in results}
        assert len(artifacts) == 1, artifacts
        manifest = json.loads((folder / "outputs" / artifacts.pop() / "manifest.json").read_text())
        assert manifest["files"]
    assert len({json.dumps([result[role]["errors"] for role in ROLES]) for result in results}) == 1
    assert {result["status"] for result in results} == {"completed"}
    outputs = folder / "outputs"
    assert {kind: len(list((outputs / kind).iterdir())) for kind in ("teachers", "soft_targets", "students")} == {
        "teachers": 1, "soft_targets": 1, "students": 2
    }  # fmt: skip
    for kind in ("teachers", "students"):
        title = {"teachers": ("teacher",), "students": ("student", "baseline")}[kind]
        for name in title:
            trained = [err for _, err in told if f"{name}: epoch" in err]
            assert len(trained) == 1, f"{name} was trained by {len(trained)} processes"
    assert not list(outputs.rglob("*.partial"))
    waited = [err for _, err in told if "is being made by process" in err]
    assert waited, "whoever waits says for whom"
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=8)
    asked = parser.parse_args()
    print("| what | outcome | time |\n|---|---|---|")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run_together(Path(folder), asked.size, f"seed={asked.seed}")
    print(f"| {asked.size} runs of one command at once | each artifact made once, figures equal | "
          f"{time.perf_counter() - began:.0f} s |")  # fmt: skip


if __name__ == "__main__":
    main()
