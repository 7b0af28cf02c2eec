"""Rules for single values that hold wherever the key stands. Imports neither hydra nor torch."""

from collections.abc import Mapping
from typing import Any

from kd_cli.errors import must
from kd_cli.ranges import number, whole_number

CHOICES = {
    "precision": ("auto", "32", "bf16-mixed", "16-mixed"),
    "select": ("last", "best_validation"),
    "memory_format": ("auto", "contiguous", "channels_last"),
    "batch_statistics": ("auto", "as_trained", "recomputed"),
}
PRECISIONS = CHOICES["precision"]
ONE_PROCESS = (
    "Training on several devices is not there yet: each process would do all of the work. Start it once, without "
    "torchrun, mpirun or srun -n; jobs of a sweep run side by side with hydra/launcher=joblib."
)


def one_process(environment: Mapping[str, str]) -> None:
    """Refuses to be one of several processes that a launcher started for the same command line.

    Slurm's number of tasks is also set in a batch script, which is one process: there it counts for a later rank alone.
    """
    counts = ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"]
    if environment.get("SLURM_PROCID", "0") not in ("", "0"):
        counts.append("SLURM_NTASKS")
    for name in counts:
        count = environment.get(name, "")
        if count.isdecimal() and int(count) > 1:
            raise must(name, "1", int(count), ONE_PROCESS)


def recipe(key: str, train: Mapping[Any, Any]) -> None:
    """Refuses what no recipe may hold; `key` is where it stands."""
    for name in ("epochs", "batch_size"):
        if name in train:
            whole_number(f"{key}.{name}", train[name], 1)
    for name in ("max_norm", "clip"):
        number(f"{key}.{name}", train.get(name), above=0, what="", null=True)
    whole_number(f"{key}.patience", train.get("patience"), 1, what="a whole number of epochs", null=True)
    whole_number(f"{key}.accumulate", train.get("accumulate", 1), 1)
    for name, words in CHOICES.items():
        if str(train.get(name, words[0])) not in words:
            rule = " or ".join(words) if len(words) == 2 else f"one of {', '.join(words)}"
            raise must(f"{key}.{name}", rule, str(train[name]))
