"""What a sweep costs beyond its students, with teacher, targets and baseline in the store: the wall time of
`kd sweep temperature=…` over the sum of its student stages.

    python benchmarks/sweep.py --mnist <folder with the four files> [--epochs 16]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import Table

from kd_cli.device import hardware
from kd_cli.runs.result import Result

TEMPERATURES = "1,2,4,8,16,20"


def main() -> None:
    """Runs the sweep in an empty folder and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True)
    parser.add_argument("--epochs", type=int, default=16)
    asked = parser.parse_args()
    words = ["dataset=mnist", f"dataset.root={Path(asked.mnist).absolute()}", "teacher=mlp_1200"]
    words += ["teacher.train.epochs=1", "student=mlp_800", f"student.train.epochs={asked.epochs}"]
    kd = [str(Path(sys.executable).with_name("kd"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:

        def run(*more: str) -> float:
            started = time.perf_counter()
            subprocess.run([*kd, *more, *words], cwd=folder, env=environment, check=True, capture_output=True)
            return time.perf_counter() - started

        run("distill", "temperature=3")
        taken = run("sweep", f"temperature={TEMPERATURES}")
        found = (Result.read(path.parent) for path in Path(folder).glob("outputs/sweeps/*/*/result.json"))
        results = [result for result in found if result is not None]
    students = sum(result.stages["student"].seconds for result in results)
    print(hardware(1))
    name = f"{len(results)} jobs, student 784-800-800-10, {asked.epochs} epochs of MNIST"
    table = Table(name, ["wall time, s", "sum of the student stages, s", "ratio"])
    table.add(f"kd sweep temperature={TEMPERATURES}", f"{taken:.1f}", f"{students:.1f}", f"{taken / students:.3f}")
    print(table)


if __name__ == "__main__":
    main()
