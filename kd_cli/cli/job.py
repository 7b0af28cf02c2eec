"""One job, as Hydra runs it: alone, or among the others of a sweep, maybe in a process of its own.

Importing this module makes schemas and resolvers known, also in a launcher's worker; it does not import torch.
"""

import importlib
import json
import os
import signal
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import kd_cli
from kd_cli import interruption
from kd_cli.build import own_code
from kd_cli.cli import rules, schema
from kd_cli.cli.foreign import told
from kd_cli.errors import ArtifactError, KdError, first_line
from kd_cli.files.digests import id_of
from kd_cli.files.locks import alone, forget
from kd_cli.runs.sweep_name import EXECUTION, sweep_name
from kd_cli.screen import answer_path, say
from kd_cli.store import run_folder
from kd_cli.store.artifacts import read_artifact

ANSWERS = ("evaluate", "predict", "list", "clean", "summarize")  # print their answer, and make no run folder
FIXED = "KD_SWEEP_FIXED"  # environment: the overrides that all jobs of the sweep have in common, for the workers too

schema.register()


def task(cfg: DictConfig) -> None:
    """Runs the stage that the primary config names. In a sweep a failing job is reported at once, the others go on."""
    context = HydraConfig.get()
    name, folder = str(context.job.config_name), Path(context.runtime.output_dir)
    in_sweep, before = context.mode == RunMode.MULTIRUN, run_folder.stamp(folder)
    os.chdir(context.runtime.cwd)  # whatever hydra.job.chdir says: paths are those of the folder where kd was started
    launched = in_sweep and Sweep.shared is None  # by a launcher, in a process of its own
    if launched and interruption.Process.struck is not None:
        if before is None:
            run_folder.forget(folder, Path(cfg.output_dir))
        return
    try:
        with interruption.job(launched):
            if name not in ANSWERS:
                rules.one_process(os.environ)  # in a launcher's worker too
            schema.check(name, cfg)
            own_code.admit_named(name not in ANSWERS, [cfg])
            if in_sweep and _is_done(cfg, folder):
                return
            importlib.import_module(f"kd_cli.commands.{'distill' if name == 'sweep' else name}").main(cfg)
    except BaseException as error:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # kd's own are told where it writes
            foreign = told(error, _modules(cfg))
            foreign.__cause__ = error
            error = foreign
        if name not in ANSWERS:
            _leave_word(cfg, folder, run_folder.stamp(folder) != before, before is not None, error)
        if launched and isinstance(error, KeyboardInterrupt):
            return  # raised, it would have the launcher kill the others amid what they write down
        if not isinstance(error, Exception):
            raise error
        if not in_sweep:
            Outcome.error = error
            return
        if os.environ.get("KD_TRACEBACK") or not isinstance(error, KdError):
            say(traceback.format_exc().rstrip())
        varied = " ".join(_varied(context.overrides.task))
        job = f"Job {folder.name} ({varied})" if varied else f"Job {folder.name}"
        say(f"{job} failed: {first_line(error)} Its log: {folder / 'kd.log'}")
        return
    if name in ANSWERS:
        own_code.say()
    elif not in_sweep:
        answer_path(folder)


def _modules(cfg: DictConfig) -> dict[str, str]:
    """The module of each `_target_` in the config, and the key that it stands at."""
    found: dict[str, str] = {}

    def look(node: Any, key: str) -> None:
        if isinstance(node, dict):
            if "_target_" in node:
                found.setdefault(str(node["_target_"]).rpartition(".")[0], key)
            for name, value in node.items():
                look(value, f"{key}.{name}".lstrip("."))

    look(OmegaConf.to_container(cfg, resolve=False), "")
    return found


def _leave_word(cfg: DictConfig, folder: Path, accepted: bool, had_result: bool, error: BaseException) -> None:
    """What a run leaves that failed: its result where the input was `accepted`, or else nothing. Another run's result,
    which the folder had, is left alone. A job of a sweep always leaves a result: its table is made of them.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN and not accepted:
        run_folder.begin(folder, asked(cfg))
        accepted = True
    if accepted:
        run_folder.update(folder, {**asked(cfg), **_failure(error)})
    elif not had_result:
        run_folder.forget(folder, Path(cfg.output_dir))


def asked(cfg: DictConfig) -> dict[str, Any]:
    """What result.json says of the input."""
    context = HydraConfig.get()
    return {
        "command": context.job.config_name.replace("_", "-"),
        "overrides": [word for word in context.overrides.task if not word.startswith(("sweep.", "resume="))],
        "dataset": context.runtime.choices.get("dataset"),
        **{key: _value(cfg, key) for key in ("seed", "temperature", "soft_weight", "hard_weight")},
        "config": _digest(cfg),
    }


def _value(cfg: DictConfig, key: str) -> Any:
    """A value, or None where it refers to what is not there: the refusal says so."""
    try:
        return cfg.get(key)
    except OmegaConfBaseException:
        return None


def _digest(cfg: DictConfig) -> str | None:
    """What determines the job but for the data's content: its config, equal for `temperature=4` and `temperature=4.0`,
    the sources of other people's `_target_`, and the versions of kd and its stages. None where that cannot be told.
    """
    from kd_cli.build.identity import identity_of
    from kd_cli.steps import bias_correction, specialists, student, targets, teacher  # import torch

    try:
        values: Any = OmegaConf.to_container(cfg, resolve=True)
        known = identity_of({key: value for key, value in values.items() if key not in EXECUTION})
    except (OmegaConfBaseException, KdError):
        return None
    stages = (teacher, specialists, targets, student, bias_correction)
    return id_of({"kd": kd_cli.__version__, "stages": [stage.VERSION for stage in stages], **known})


def _is_done(cfg: DictConfig, folder: Path) -> bool:
    """Whether this job of a sweep, or one equal to it, is complete or has had its turn; says so in one line."""
    digest, name = str(_digest(cfg)), folder.name
    if Sweep.jobs is None:
        Sweep.jobs = _completed(folder.parent) if cfg.resume else {}
    twin = Sweep.jobs.get(digest)
    if twin is not None and not _stands(cfg, folder.with_name(twin)):
        twin = None
    if twin == name:
        say(f"Job {name} is complete, and not run again (resume=false would).")
        return True
    if twin is not None:
        (folder / run_folder.RESULT).unlink(missing_ok=True)  # of an earlier attempt: the twin's stands
        say(f"Job {name} is equal to {twin}, and not run.")
        run_folder.forget(folder, Path(cfg.output_dir))
        return True
    Sweep.jobs[digest] = name
    return False


def _completed(sweep: Path) -> dict[str, str]:
    """The jobs of a sweep's folder that are complete, by the digest of their config."""
    found = {}
    for path in sweep.glob(f"*/{run_folder.RESULT}"):
        with suppress(ArtifactError):  # a damaged result is made anew
            result = run_folder.read(path.parent) or {}
            if result.get("status") == "completed":
                found[str(result.get("config"))] = path.parent.name
    return found


def _stands(cfg: DictConfig, job: Path) -> bool:
    """Whether a job's data, its teacher and all that it made are what they were; also where nobody can tell, for it
    could not be run anew either.
    """
    from kd_cli.runs.run import dataset_of, shared
    from kd_cli.steps.recipes import starts  # import torch
    from kd_cli.steps.teacher import given, standing

    with suppress(KdError, KeyError, TypeError, AttributeError):
        then = run_folder.read(job) or {}
        if any(then["identities"].get(key) != begun_from.content for key, begun_from in starts(cfg).items()):
            return False
        elsewhere = given(cfg)
        for stage, entry in then["stages"].items():
            if stage in elsewhere:  # below
                continue
            with suppress(ArtifactError):  # one that was cleaned away, or is damaged
                artifact = entry["artifact"]
                if artifact and read_artifact(Path(cfg.output_dir, artifact)).content != then["identities"][stage]:
                    return False
        dataset = dataset_of(cfg.dataset, may_download=False)
        if dataset.fingerprint != then["environment"]["dataset_fingerprint"]:
            return False
        foreign = OmegaConf.select(cfg, "transfer.dataset")
        if foreign is not None:
            now = dataset_of(foreign, "transfer.dataset", may_download=False).fingerprint
            if now != then["environment"]["transfer_fingerprint"]:
                return False
        values: Any = OmegaConf.to_container(cfg.teacher, resolve=True)
        teacher = shared(["standing", values, dataset.fingerprint], lambda: standing(cfg, dataset))
        return all(then["identities"].get(stage) == identity for stage, identity in teacher.items())
    return True


def _failure(error: BaseException) -> dict[str, str]:
    if isinstance(error, KeyboardInterrupt):
        number = error.args[0] if error.args else signal.SIGINT
        by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        return {"status": "interrupted", "error": f"interrupted by {by}"}
    return {
        "status": "failed",
        "error": str(error) if isinstance(error, KdError) else f"{type(error).__name__}: {error}",
    }


class Outcome:
    """Why a single job, or a sweep before its first one, failed. Raised by `cli` once Hydra is done: Hydra would print
    a line of its own before it.
    """

    error: Exception | None = None


class Sweep(Callback):
    """The sweep that this process started: its folder, for the table at its end, and what its jobs share.

    `population`: the configs of the jobs whose students are still to be trained together.
    """

    folder: Path | None = None
    shared: dict[str, Any] | None = None  # none outside a sweep, and none in a launcher's workers
    population: Sequence[DictConfig] = ()
    jobs: dict[str, str] | None = None  # those that are complete or have had their turn, by the digest of their config
    turn = ExitStack()  # while it is open, an equal sweep waits

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra before anything is written. It would make a warning of an error."""
        try:
            given, config.sweep.name = config.sweep.name, sweep_name(config)
            if given is None:
                config.hydra.overrides.task.append(f"sweep.name={config.sweep.name}")  # for the jobs, wherever they run
            root, folder = Path(config.output_dir), Path(config.hydra.sweep.dir)
            Sweep.turn.enter_context(alone(root, _turn(folder)))
            Sweep.turn.callback(_forget_turn, root, folder)
        except OmegaConfBaseException:  # Hydra says so itself
            return
        except KdError as error:
            Outcome.error = error
            raise SystemExit(1) from error
        Sweep.folder, Sweep.shared, Sweep.jobs = folder, {}, None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra after the last job."""
        Sweep.shared = None


def _turn(sweep: Path) -> str:
    return f"sweeps/{sweep.name}"


def _forget_turn(root: Path, sweep: Path) -> None:
    """A sweep that was refused leaves nothing behind."""
    if not sweep.exists():
        forget(root, _turn(sweep))


def fix(words: list[str]) -> None:
    """Notes which of the typed overrides are the same in all jobs."""
    parser, fixed = OverridesParser.create(), []
    for word in words:
        try:
            override = parser.parse_override(word)
            if not override.is_sweep_override():
                fixed += [word, f"{override.get_key_element()}={override.get_value_element_as_str()}"]  # as jobs get it
        except Exception:  # Hydra will say itself, and better, what it cannot read
            continue
    os.environ[FIXED] = json.dumps(fixed)


def _varied(overrides: ListConfig) -> list[str]:
    fixed = json.loads(os.environ.get(FIXED, "[]"))
    return [word for word in overrides if word not in fixed and not word.startswith("sweep.")]


def _job_name(overrides: ListConfig) -> str:
    """`temperature-4_seed-0`: what this job does not share with the others, in the order in which it was typed."""
    return schema.slug("_".join(word.lstrip("+").replace("=", "-", 1) for word in _varied(overrides)))


OmegaConf.register_new_resolver("kd_job", _job_name, replace=True)
