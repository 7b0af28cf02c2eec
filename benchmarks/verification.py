"""What it costs to verify the digests of all that a run on MNIST reads from the store, as a share of the run's time:
one epoch each, the shortest run there is, and the paper's 120 and 40, reckoned from it.

    python benchmarks/verification.py --mnist <folder with the four files>
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
from kd_cli.store.artifacts import open_artifact

EPOCHS = {"teacher": 120, "student": 40, "baseline": 40}


def main() -> None:
    """Runs `kd distill`, verifies what it stored three times, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True)
    asked = parser.parse_args()
    words = ["distill", "experiment=hinton_mnist", f"dataset.root={Path(asked.mnist).absolute()}"]
    words += ["teacher.train.epochs=1", "student.train.epochs=1"]
    with tempfile.TemporaryDirectory() as folder:
        kd = str(Path(sys.executable).with_name("kd"))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started = time.perf_counter()
        subprocess.run([kd, *words], cwd=folder, env=environment, check=True, capture_output=True)
        wall = time.perf_counter() - started
        (path,) = Path(folder).glob("outputs/runs/*/result.json")
        result = Result.read(path.parent)
        assert result is not None
        stored = [Path(folder, "outputs", stage.artifact) for stage in result.stages.values() if stage.artifact]
        size = sum(file.stat().st_size for each in stored for file in each.iterdir())
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            for each in stored:
                open_artifact(each)
            taken.append(time.perf_counter() - started)
    longer = wall + sum(result.stages[role].seconds * (epochs - 1) for role, epochs in EPOCHS.items())
    table = Table(f"{size / 1e6:.1f} MB in {len(stored)} artifacts; {hardware(1)}", ["run", "verifying", "share"])
    for name, seconds in (("1 epoch each, measured", wall), ("120 and 40 epochs, reckoned", longer)):
        table.add(name, f"{seconds:.1f} s", f"{min(taken) * 1000:.0f} ms", f"{min(taken) / seconds:.2%}")
    print(table)


if __name__ == "__main__":
    main()
