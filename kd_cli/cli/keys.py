"""The keys of every command: type, default and meaning. Imports neither hydra nor torch.

What a choice of a group adds (`dataset.root`, `student.train.epochs`) is in its YAML, each key with its meaning as a
comment; `manual` reads both. `schema` has the rules.
"""

from dataclasses import dataclass, field, fields
from typing import Any

MISSING: Any = "???"  # OmegaConf's word for a value that must be given


def key(meaning: str, default: Any) -> Any:
    """Return a field with a meaning; a mutable default is copied for each instance."""
    if isinstance(default, dict | list | type):
        return field(default_factory=default if isinstance(default, type) else default.copy, metadata={"": meaning})
    return field(default=default, metadata={"": meaning})


@dataclass
class CheckpointKeys:
    """How often a training is written down: at the end of each n-th epoch, or once so much time has passed."""

    every_epochs: int | None = key("write an unfinished training down at the end of each n-th epoch", None)
    # 10 minutes cost less than 1 % of the time with a ResNet-50 under AdamW, 307 MB.
    every_minutes: float | None = key("write it down after so much time; null: never", 10.0)


@dataclass
class EvaluateKeys:
    """What is measured of a model beside its answers."""

    latency: bool = key("measure the time of a forward pass, of one sample and of 256", True)


@dataclass
class Normalisation:
    """The mean and standard deviation of the data set's pixels, of all or of each channel, for the models that ask."""

    mean: list[float] = key("of the data set's pixels, for the models that normalise", [0.0])
    std: list[float] = key("standard deviation of the same pixels", [1.0])


@dataclass
class SweepKeys:
    """Where the jobs of a sweep go."""

    name: str | None = key("folder below output_dir/sweeps; null: made of the command line", None)


@dataclass
class Targets:
    """How soft targets are stored."""

    dtype: str = key("of the stored logits: float16, or float32", "float16")
    top_k: int | None = key("store the k largest logits alone, and the rest's mass for each of `temperatures`", None)
    temperatures: list[float] | None = key("where top_k is set; null: the run's own", None)


@dataclass
class TrainTeacher:
    """Keys of `kd train-teacher`."""

    dataset: dict[str, Any] = key("the task: what teacher and student are trained and tested on", dict)
    normalisation: Normalisation = key("the data set's own, where it is known", Normalisation)
    teacher: dict[str, Any] = key("the large model; by default one for the data set", dict)
    device: str = key("auto, cpu, cuda, cuda:<number> or mps", "auto")
    compile: bool = key("compile the networks with torch.compile", False)
    output_dir: str = key("where everything goes, and where it is found again", "outputs")
    rebuild: bool = key("move a damaged artifact aside and make it anew", False)
    trusted_modules: list[str] = key("modules of yours that a stored config may name", list)
    checkpoint: CheckpointKeys = key("how often a training is written down", CheckpointKeys)
    evaluate: EvaluateKeys = key("what is measured of a model", EvaluateKeys)
    sweep: SweepKeys = key("where the jobs of a sweep go", SweepKeys)
    resume: bool = key("of a sweep: run the jobs alone that are missing or did not complete", True)


@dataclass
class DumpTargets(TrainTeacher):
    """Keys of `kd dump-targets`."""

    transfer: dict[str, Any] = key("the samples on which the teacher is asked", dict)
    targets: Targets = key("how its answers are stored", Targets)
    precision: str = key("auto, 32, bf16-mixed or 16-mixed; a teacher has teacher.train.precision", "auto")


@dataclass
class Distill(DumpTargets):
    """Keys of `kd distill` and `kd sweep`."""

    student: dict[str, Any] = key("the small model, with its recipe; by default one for the data set", dict)
    objective: dict[str, Any] = key("the loss that teaches the student", dict)
    temperature: float = key("divides the logits of both before the softmax: higher is softer", 4.0)
    soft_weight: float = key("of the teacher's soft targets in the loss", 0.9)
    hard_weight: float = key("of the true labels in the loss", 0.1)
    seed: int = key("of the student and its baseline", 0)
    baseline: bool = key("train the same student without a teacher, to compare with", True)
    bias_correction: str | None = key("one more student, its output bias shifted: prior (no labels) or oracle", None)
    budget: str = key("of an experiment that says what it makes of it: short or full", "full")


@dataclass
class Evaluate:
    """Keys of `kd evaluate`."""

    path: str = key("the stored model: its folder, or that of a run", MISSING)
    split: str = key("of the data set: test, validation, transfer or train", "test")
    dataset: dict[str, Any] = key("null: the one of the run, or that the model was trained on", dict)
    device: str = key("auto, cpu, cuda, cuda:<number> or mps", "auto")
    format: str = key("of the answer: table, json or csv", "table")
    evaluate: EvaluateKeys = key("what is measured of a model", EvaluateKeys)
    trusted_modules: list[str] = key("modules of yours that a stored config may name", list)


@dataclass
class Predict:
    """Keys of `kd predict`."""

    path: str = key("the stored model: its folder, or that of a run", MISSING)
    images: Any = key("a file, a folder of them, a pattern as '*.jpg', or a list of such", None)
    sounds: Any = key("a sound file, a folder of them, a pattern as '*.wav', or a list of such", None)
    texts: str | None = key("a file with a text in each line, or a table with a column of them", None)
    device: str = key("auto, cpu, cuda, cuda:<number> or mps", "auto")
    format: str = key("of the answer: csv or json", "csv")
    trusted_modules: list[str] = key("modules of yours that a stored config may name", list)


@dataclass
class List:
    """Keys of `kd list`."""

    output_dir: str = key("the folder to look into", "outputs")
    format: str = key("of the answer: table, json or csv", "table")


@dataclass
class Clean:
    """Keys of `kd clean`."""

    output_dir: str = key("the folder to clean", "outputs")
    yes: bool = key("remove what is shown without it", False)
    force: bool = key("also what a run elsewhere uses, or one that cannot be read may use", False)


@dataclass
class Summarize:
    """Keys of `kd summarize`."""

    sweep: str = key("the folder of the sweep", MISSING)


SCHEMAS = {
    "train_teacher": TrainTeacher,
    "dump_targets": DumpTargets,
    "distill": Distill,
    "evaluate": Evaluate,
    "predict": Predict,
    "list": List,
    "clean": Clean,
    "summarize": Summarize,
}


def schema_of(command: str) -> type:
    """Return the dataclass whose fields are the command's keys at the top level."""
    return SCHEMAS["distill" if command == "sweep" else command]


def keys(command: str) -> tuple[str, ...]:
    """Return the keys of a command at the top level."""
    return tuple(each.name for each in fields(schema_of(command)))
