"""From config to typed steps, once: what a command is to do, refused here where no data are needed to see it is wrong.

Below this module nothing sees the config.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd_cli.build.identity import Described, plain
from kd_cli.build.objects import build_dataset, instantiate, resolved_config
from kd_cli.build.parts import members, owns_its_keys
from kd_cli.data.augment import Augment
from kd_cli.data.mixing import Mix
from kd_cli.data.samples import Dataset
from kd_cli.errors import must, under
from kd_cli.ranges import whole_number
from kd_cli.runs.session import Session
from kd_cli.steps.recipes import started_from
from kd_cli.teachers.ensemble import Ensemble
from kd_cli.teachers.published import Published
from kd_cli.teachers.source import Answered, Single, Source
from kd_cli.teachers.specialists.source import Specialists
from kd_cli.teachers.trained import Trained
from kd_cli.train.fit import Objective
from kd_cli.train.recipe import Recipe


@dataclass(frozen=True)
class DatasetPlan:
    """A data set that is to be read; `key` is where its config stands."""

    key: str
    config: dict[str, Any]

    def load(self, session: Session, may_download: bool = True) -> Dataset:
        """Return the data set, read once in a session."""
        node = self.config
        content = {name: value for name, value in node.items() if name != "download"}
        if "download" in node and not may_download:
            node = {**content, "download": False}
        return session.once(["dataset", content], lambda: build_dataset(node, self.key))

    @property
    def stored(self) -> dict[str, Any]:
        """Its config with an absolute root, so that a stored model can be evaluated from anywhere; a table of labels
        below the root is moved with it.
        """
        node, labels = self.config, self.config.get("labels")
        if node.get("root") is None:
            return node
        found = {}
        if isinstance(labels, str) and not Path(node["root"], labels).exists():
            found = {"labels": str(Path(labels).absolute())}
        return {**node, "root": str(Path(node["root"]).absolute()), **found}


@dataclass(frozen=True)
class Part:
    """One network of a teacher, or what answers in place of one: the stage that gives it, its source, and the config
    `config` that stands at `key`.
    """

    stage: str
    key: str
    source: Single | Answered
    config: dict[str, Any]

    @property
    def trained(self) -> bool:
        """Whether kd trains it."""
        return isinstance(self.source, Trained)


@dataclass(frozen=True)
class TeacherPlan:
    """The teacher: its source, the networks that it is made of by their names, and its whole config."""

    source: Source
    parts: Mapping[str, Part]
    config: dict[str, Any]
    trusted: tuple[str, ...]

    @property
    def online(self) -> bool:
        """Whether it is asked in every step instead of once."""
        return self.source.online


@dataclass(frozen=True)
class TransferPlan:
    """The transfer set that was asked for."""

    dataset: DatasetPlan | None
    labels: Any
    fraction: Any
    omit_classes: Any
    only_classes: Any
    augment: Described[Augment | Mix] | None
    views: int
    seed: int


@dataclass(frozen=True)
class TargetsPlan:
    """How soft targets are stored, and at which temperature a student reads them: None where there is no student."""

    dtype: str
    top_k: int | None
    temperatures: Any
    temperature: float | None
    precision: str


@dataclass(frozen=True)
class StudentPlan:
    """The student and, with `baseline`, the same without a teacher."""

    model: Described[Any]  # (num_classes, input_shape or spec) → network
    recipe: Described[Recipe]
    objective: Described[Objective]
    seed: int
    hard_weight: float
    baseline: bool
    bias_correction: str | None


@dataclass(frozen=True)
class Plan:
    """All that a command which trains is to do."""

    dataset: DatasetPlan
    teacher: TeacherPlan
    transfer: TransferPlan | None
    targets: TargetsPlan | None
    student: StudentPlan | None
    device: str
    compile: bool
    every_epochs: int | None
    every_minutes: float | None
    latency: bool
    output_dir: Path
    rebuild: bool

    def starts(self) -> dict[str, tuple[Path | None, str]]:
        """Return what trainings begin from, by the recipe's key and what is trained by it: the folder of a stored
        model, None for a file, and what tells its weights from others.
        """
        found: dict[str, tuple[Path | None, str]] = {}
        for key, recipe in _recipes(self.teacher, self.student):
            baseline = self.student is not None and self.student.baseline
            roles = ("student", *(["baseline"] if baseline else [])) if key == "student.train" else ("teacher",)
            for role in roles if recipe.start_from is not None else ():
                with under(key.removesuffix(".train")):
                    found[f"{key}.start_from of {role}"] = started_from(str(recipe.start_from), role)
        return found


def plan_of(cfg: DictConfig) -> Plan:
    """Return what the config of a command asks for; raise ConfigError for what no data set could be used with."""
    student = _student(cfg) if "student" in cfg else None
    teacher = _teacher(cfg)
    transfer = _transfer(cfg.transfer) if "transfer" in cfg else None
    targets = None
    if "targets" in cfg:
        asked, temperature = cfg.targets, cfg.get("temperature")
        targets = TargetsPlan(asked.dtype, asked.top_k, plain(asked.temperatures), temperature, str(cfg.precision))
    if teacher.online and transfer is not None:
        if student is None:
            raise must("teacher.online", "false for kd dump-targets", True, "An online teacher has nothing to dump.")
        if transfer.views > 1:
            rule = "1 with teacher.online=true, where each epoch has a view of its own"
            raise must("transfer.views", rule, transfer.views)
        if targets is not None and targets.top_k is not None:
            rule = "null with teacher.online=true, which stores no targets"
            raise must("targets.top_k", rule, targets.top_k)
    for key, recipe in dict(_recipes(teacher, student)).items():
        with under(key.removesuffix(".train")):
            if not isinstance(recipe, Recipe):
                raise must(".train", "a recipe", type(recipe).__name__)
            recipe.values()
    return Plan(
        DatasetPlan("dataset", plain(cfg.dataset)),
        teacher,
        transfer,
        targets,
        student,
        cfg.device,
        cfg.compile,
        cfg.checkpoint.every_epochs,
        cfg.checkpoint.every_minutes,
        cfg.evaluate.latency,
        Path(cfg.output_dir),
        cfg.rebuild,
    )


def _described(cfg: DictConfig, key: str) -> Described[Any]:
    node = OmegaConf.select(cfg, key)
    return Described(instantiate(node, key), plain(node))


def _student(cfg: DictConfig) -> StudentPlan:
    with under("student"):
        recipe = _described(cfg, "student.train")
        model = replace(_described(cfg, "student.model"), config=resolved_config(cfg.student.model))
    objective = _described(cfg, "objective")
    return StudentPlan(model, recipe, objective, cfg.seed, cfg.hard_weight, cfg.baseline, cfg.bias_correction)


def _transfer(node: DictConfig) -> TransferPlan:
    views = node.views
    whole_number("transfer.views", views, 1)
    with under("transfer"):
        augment = None
        if node.augment is not None:
            augment = Described(instantiate(node.augment, "transfer.augment"), plain(node.augment))
    if augment is None and views > 1:
        hint = "Choose one: transfer.augment=jitter."
        raise must("transfer.views", "1 where transfer.augment is null", views, hint)
    dataset = DatasetPlan("transfer.dataset", plain(node.dataset)) if node.dataset is not None else None
    omit, only = plain(node.omit_classes), plain(node.only_classes)
    return TransferPlan(dataset, node.labels, node.fraction, omit, only, augment, views, node.seed)


def _teacher(cfg: DictConfig) -> TeacherPlan:
    for part in members(cfg.teacher):  # each by itself first: a refusal then names its key
        with under(f"teacher.{part}"):
            instantiate(OmegaConf.select(cfg, f"teacher.{part}"), f"teacher.{part}")
    with under("teacher"):
        source = instantiate(cfg.teacher, "teacher")
    if not isinstance(source, Single | Answered | Ensemble | Specialists):
        raise must("teacher", "a kd_cli.teachers.source.Single", type(source).__name__, "Derive its class from that.")
    return TeacherPlan(source, dict(_parts(cfg, source)), plain(cfg.teacher), tuple(cfg.trusted_modules))


def _parts(cfg: DictConfig, source: Source) -> Iterator[tuple[str, Part]]:
    """Each network that a teacher is given or trained from, by its name."""

    def part(stage: str, key: str, single: Single | Answered) -> Part:
        config = plain(OmegaConf.select(cfg, key))
        if not owns_its_keys(key, config) and "model" in config:
            with under(key):
                config["model"] = _model(single, config["model"])
        return Part(stage, key, single, config)

    if isinstance(source, Ensemble):
        for name, (place, member) in source.sources().items():
            yield name, part(f"teacher_{name}", f"teacher.{place}", member)
    elif isinstance(source, Specialists):
        yield "generalist", part("generalist", "teacher.generalist", source.generalist)
    elif isinstance(source, Single | Answered):
        yield "teacher", part("teacher", "teacher", source)


def _model(single: Source, config: Any) -> Any:
    """The config of a teacher's network, which tells what lies in files by its content."""
    if not isinstance(single, Published):
        return resolved_config(config)
    with single.keys():
        return resolved_config(single.described(config))


def _recipes(teacher: TeacherPlan, student: StudentPlan | None) -> Iterator[tuple[str, Recipe]]:
    """Each recipe, by its key: the student's, the teacher's, and those of the teachers that it is made of."""
    if student is not None:
        yield "student.train", student.recipe.built
    if isinstance(teacher.source, Specialists):
        yield "teacher.train", teacher.source.train
    for part in teacher.parts.values():
        if isinstance(part.source, Trained):
            yield f"{part.key}.train", part.source.train
