"""One job, as Hydra runs it: alone or in a sweep, maybe in a process of its own. Never imports torch."""

import importlib
import os
import signal
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd_cli import interruption
from kd_cli.build import own_code
from kd_cli.cli import rules, schema
from kd_cli.cli.foreign import told
from kd_cli.cli.sweep_name import sweep_name
from kd_cli.commands.asked import asked, digest_of_job, short
from kd_cli.errors import ArtifactError, KdError, first_line
from kd_cli.files.locks import alone, forget
from kd_cli.runs.result import Result
from kd_cli.runs.session import Session, current
from kd_cli.screen import answer_path, say
from kd_cli.store import run_folder
from kd_cli.store.artifacts import read_artifact
from kd_cli.store.format import expect_format

ANSWERS = ("evaluate", "predict", "list", "clean", "summarize")  # print their answer, and make no run folder


class Job:
    """What Hydra calls for each job of a session, in this process or, pickled, in a launcher's worker."""

    def __init__(self, session: Session) -> None:
        self.session = session
        schema.register()
        OmegaConf.register_new_resolver("kd_job", self._name, replace=True)

    def __reduce__(self) -> tuple[type["Job"], tuple[Session]]:
        return Job, (self.session,)

    def __call__(self, cfg: DictConfig) -> None:
        """Run the command that the primary config names. In a sweep a failing job is reported at once, the others go
        on.
        """
        session, context = self.session, HydraConfig.get()
        name, folder = str(context.job.config_name), Path(context.runtime.output_dir)
        in_sweep, before = context.mode == RunMode.MULTIRUN, run_folder.stamp(folder)
        os.chdir(context.runtime.cwd)  # whatever hydra.job.chdir says: paths are those of where kd was started
        launched = in_sweep and not session.shares  # by a launcher, in a process of its own
        if launched and interruption.Process.struck is not None:
            if before is None:
                run_folder.discard(folder, Path(cfg.output_dir))
            return
        try:
            with interruption.job(launched):
                if name not in ANSWERS:
                    rules.one_process(os.environ)  # in a launcher's worker too
                schema.check(name, cfg)
                own_code.admit_named(name not in ANSWERS, [cfg])
                if in_sweep and _is_done(cfg, folder, session):
                    return
                command = importlib.import_module(f"kd_cli.commands.{'distill' if name == 'sweep' else name}")
                command.main(*([cfg] if name in ANSWERS else [cfg, session]))
        except BaseException as error:
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # kd's are told where it writes
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
                session.error = error
                return
            if os.environ.get("KD_TRACEBACK") or not isinstance(error, KdError):
                say(traceback.format_exc().rstrip())
            varied = " ".join(self._varied(context.overrides.task))
            job = f"Job {folder.name} ({varied})" if varied else f"Job {folder.name}"
            say(f"{job} failed: {first_line(error)} Its log: {folder / 'kd.log'}")
            return
        if name in ANSWERS:
            own_code.log_own_modules()
        elif not in_sweep:
            answer_path(folder)

    def _varied(self, overrides: Sequence[str]) -> list[str]:
        varied = (word for word in overrides if word not in self.session.fixed and not word.startswith("sweep."))
        return [short(word) for word in varied]

    def _name(self, overrides: Sequence[str]) -> str:
        """`temperature-4_seed-0`: what this job does not share with the others, in the order in which it was typed."""
        return schema.slug("_".join(word.lstrip("+").replace("=", "-", 1) for word in self._varied(overrides)))


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
        run_folder.mark_accepted(folder, asked(cfg))
        accepted = True
    if accepted:
        run_folder.update(folder, {**asked(cfg), **_failure(error)})
    elif not had_result:
        run_folder.discard(folder, Path(cfg.output_dir))


def _is_done(cfg: DictConfig, folder: Path, session: Session) -> bool:
    """Whether this job of a sweep, or one equal to it, is complete or has had its turn; says so in one line."""
    digest, name = str(digest_of_job(cfg)), folder.name
    if session.jobs is None:
        session.jobs = _completed(folder.parent) if cfg.resume else {}
    twin = session.jobs.get(digest)
    if twin is not None and not _stands(cfg, folder.with_name(twin), session):
        twin = None
    if twin == name:
        say(f"Job {name} is complete, and not run again (resume=false would).")
        return True
    if twin is not None:
        (folder / run_folder.RESULT).unlink(missing_ok=True)  # of an earlier attempt: the twin's stands
        say(f"Job {name} is equal to {twin}, and not run.")
        run_folder.discard(folder, Path(cfg.output_dir))
        return True
    session.jobs[digest] = name
    return False


def _completed(sweep: Path) -> dict[str, str]:
    """The jobs of a sweep's folder that are complete, by the digest of their config."""
    found = {}
    for path in sweep.glob(f"*/{run_folder.RESULT}"):
        with suppress(ArtifactError):  # a damaged result is made anew
            result = Result.read(path.parent)
            if result is not None and result.status == "completed":
                found[str(result.config)] = path.parent.name
    return found


def _stands(cfg: DictConfig, job: Path, session: Session) -> bool:
    """Whether a job's data, its teacher and all that it made are what they were; also where nobody can tell, for it
    could not be run anew either.
    """
    from kd_cli.steps.plan import plan_of  # imports torch
    from kd_cli.steps.teacher import standing

    with suppress(KdError):
        plan, then = plan_of(cfg), Result.read(job)
        if then is None or then.environment is None:
            return True
        if any(then.identities.get(key) != content for key, (_, content) in plan.starts().items()):
            return False
        elsewhere = {part.stage for part in plan.teacher.parts.values() if not part.trained}
        for name, stage in then.stages.items():
            if name in elsewhere or not stage.artifact:  # the former: below
                continue
            with suppress(ArtifactError):  # one that was cleaned away, or is damaged
                if read_artifact(Path(cfg.output_dir, stage.artifact)).content != then.identities.get(name):
                    return False
        dataset = plan.dataset.load(session, may_download=False)
        if dataset.fingerprint != then.environment.dataset_fingerprint:
            return False
        if plan.transfer is not None and plan.transfer.dataset is not None:
            now = plan.transfer.dataset.load(session, may_download=False).fingerprint
            if now != then.environment.transfer_fingerprint:
                return False
        key = ["standing", plan.teacher.config, dataset.fingerprint]
        teacher = session.once(key, lambda: standing(plan.teacher, dataset, Path(cfg.output_dir)))
        return all(then.identities.get(stage) == identity for stage, identity in teacher.items())
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


class Sweep(Callback):
    """What Hydra calls around a sweep; it builds this itself, from the config."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Name the sweep's folder and wait for an equal sweep, before anything is written. Hydra would make a warning
        of an error.
        """
        session = current()
        try:
            given, config.sweep.name = config.sweep.name, sweep_name(config)
            if given is None:
                config.hydra.overrides.task.append(f"sweep.name={config.sweep.name}")  # for the jobs, wherever they run
            root, folder = Path(config.output_dir), Path(config.hydra.sweep.dir)
            expect_format(root)
            session.turn.enter_context(alone(root, _turn(folder)))
            session.turn.callback(_forget_turn, root, folder)
        except OmegaConfBaseException:  # Hydra says so itself
            return
        except KdError as error:
            session.error = error
            raise SystemExit(1) from error
        session.folder, session.jobs = folder, None
        session.share(True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget what the jobs shared."""
        current().share(False)


def _turn(sweep: Path) -> str:
    return f"sweeps/{sweep.name}"


def _forget_turn(root: Path, sweep: Path) -> None:
    """A sweep that was refused leaves nothing behind."""
    if not sweep.exists():
        forget(root, _turn(sweep))


def fixed(words: Sequence[str]) -> tuple[str, ...]:
    """Return which of the typed overrides are the same in all jobs, also as the jobs get them."""
    parser, found = OverridesParser.create(), []
    for word in words:
        try:
            override = parser.parse_override(word)
            if not override.is_sweep_override():
                found += [word, f"{override.get_key_element()}={override.get_value_element_as_str()}"]
        except Exception:  # Hydra will say itself, and better, what it cannot read
            continue
    return tuple(found)
