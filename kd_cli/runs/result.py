"""The result of a run, typed. result.json is its one serialisation. Never imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kd_cli.errors import ArtifactError
from kd_cli.files import typed_json
from kd_cli.measure.figures import Figures
from kd_cli.store import run_folder

ROLES = ("teacher", "student", "corrected", "baseline")
Plain = str | int | float | bool | None  # a value as it was typed: what is no seed ends in a failed run


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`artifact` is what the stage gave, None for a teacher from elsewhere; `cached` says that it was there already."""

    seconds: float
    cached: bool
    artifact: str | None
    batch_statistics: dict[str, Any] | None = None  # as the artifact's manifest has them


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What explains a result without determining what it is."""

    device: str
    precision: str
    threads: int
    torch: str
    kd: str
    dataset_fingerprint: str
    device_name: str | None = None
    instructions: str | None = None
    python: str | None = None
    transfer_fingerprint: str | None = None  # of another data set whose samples are the transfer set


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run was asked, and what it found so far. Another `format` is another contract; within one, fields may be
    added, and one that this kd does not know is ignored.

    A run that is still going on, or was killed, reads interrupted.
    `config` is the digest of what determines the run; `data` is the data set's config, `data_found` what was
    understood of its files; `output_dir` is where the artifacts are, if the run's folder lies elsewhere;
    `named_classes` are those that the transfer set's filters name. `artifacts` are all that the run uses,
    `identities` the digests of their content by stage. `replaces` is the completed result that the folder had before,
    kept as it was until this run completes.
    """

    format: int = run_folder.FORMAT
    status: Literal["completed", "failed", "interrupted"]
    command: str
    overrides: list[str]
    seed: Plain
    dataset: str | None
    temperature: Plain
    soft_weight: Plain
    hard_weight: Plain
    config: str | None
    data: dict[str, Any] | None = None
    data_found: dict[str, Any] | None = None
    output_dir: str | None = None
    teacher: Figures | None = None
    student: Figures | None = None
    corrected: Figures | None = None
    baseline: Figures | None = None
    gap_recovered: float | None = None
    gap_reason: str | None = None  # why it is None
    note: str | None = None
    named_classes: list[str] = field(default_factory=list)
    stages: dict[str, Stage] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    identities: dict[str, str] = field(default_factory=dict)
    environment: Environment | None = None
    error: str | None = None
    replaces: dict[str, Any] | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any], where: str | Path = run_folder.RESULT) -> "Result":
        """Return parsed JSON as a result. Raises ArtifactError naming the field where it is none, or of another format;
        `where` is the file's name in the message.
        """
        run_folder.expect_result_format(content, where)
        try:
            return typed_json.from_json(cls, content)
        except ValueError as error:
            raise ArtifactError(f"{where} is no result of kd: {error}.") from error

    @classmethod
    def read(cls, folder: Path) -> "Result | None":
        """Return the result of the run in `folder`, None before its input was accepted. Raises ArtifactError."""
        content = run_folder.read(folder)
        return None if content is None else cls.of(content, folder / run_folder.RESULT)

    def to_json(self) -> dict[str, Any]:
        """Return what result.json holds. What a run with a student could not tell is null in it."""
        content: dict[str, Any] = typed_json.to_json(self)
        if self.student is not None:
            content = {"teacher": None, "gap_recovered": None, "gap_reason": None, "note": None} | content
        for role in ("student", "baseline"):
            if role in content:
                content[role] = {"train_accuracy": None} | content[role]
        if self.student is not None:
            content["student"] = {"agreement": None, "kl_to_teacher": None} | content["student"]
        return {"format": self.format} | content

    @property
    def figures(self) -> dict[str, Figures]:
        """The models that were measured, by their roles, in the order of a table's columns."""
        found = {role: getattr(self, role) for role in ROLES}
        return {role: figures for role, figures in found.items() if figures is not None}
