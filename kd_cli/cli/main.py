"""`kd <command> [key=value …]`: a command is a primary config, run through the one Hydra entry point.

Never imports torch: help, completion and a config error must be there at once.
"""

import os
import re
import signal
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

from kd_cli import __version__, interruption
from kd_cli.cli.choices import CONFIGS
from kd_cli.cli.help import page, usage
from kd_cli.cli.manual import commands
from kd_cli.errors import KdError, did_you_mean, reason
from kd_cli.screen import answer, answer_path, prepare_streams, quoting, say

SHOWS = {"--multirun", "-m", "--cfg", "-c", "--info", "-i", "--help", "-h", "--hydra-help"}
SHOWS_ALONE = SHOWS - {"--multirun", "-m"}  # and runs nothing
SHELLS = ("bash", "zsh", "fish")


def main() -> None:
    """Entry point of the `kd` command. A signal to end it is taken as Ctrl-C is."""
    prepare_streams()
    interruption.listen()
    try:
        status = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        status = _interrupted(stop)
    except BrokenPipeError:  # `kd … | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)


def run(words: list[str]) -> int:
    """Runs one command line; returns the exit status."""
    command, *rest = words or ["--help"]
    if command in ("--help", "-h", "help"):
        if rest and not rest[0].startswith("-"):
            return run([*rest[:1], "--help"])  # `kd help distill`
        answer(usage())
        return 0
    if command in ("--version", "-V", "version"):
        answer(f"kd {__version__}")
        return 0
    if command == "completion":
        if len(rest) != 1 or rest[0] not in SHELLS:
            say(f"kd completion must be given one of {', '.join(SHELLS)}, got {' '.join(rest) or 'nothing'}.")
            return 2
        return _hydra("distill", ["-sc", f"install={rest[0]}"])
    if command in ("-sc", "--shell-completion"):
        return _complete(rest)
    if command not in commands():
        hint = did_you_mean(command, list(commands())) or _command_first(words)
        say(f"The command must be one of {', '.join(commands())}, got {command!r}. {hint or 'See kd --help.'}")
        return 2
    if {"--help", "-h"} & set(rest) or rest[:1] == ["help"]:
        try:
            answer(page(command.replace("-", "_"), [word for word in rest if word != "help"]))
        except KdError as error:
            say(str(error))
            return 1
        return 0
    return _hydra(command.replace("-", "_"), rest)


def _command_first(words: list[str]) -> str:
    """The line for a command line whose command stands elsewhere, or is left out."""
    from kd_cli.cli import schema
    from kd_cli.cli.hints import suggestion
    from kd_cli.cli.typed import Words

    schema.register()
    name = next((word for word in words if word in commands()), "distill")
    rest = [word for word in words if word != name]
    return suggestion(Words(name.replace("-", "_"), tuple(rest))) if words[0][:1] == "-" or "=" in words[0] else ""


def _hydra(name: str, words: list[str]) -> int:
    """Runs Hydra's entry point with `configs/<name>.yaml`; every error becomes one message and a status here."""
    try:
        os.getcwd()
    except FileNotFoundError:
        say("The folder that kd is started in must exist, but it was removed. Change to another one: cd <folder>.")
        return 1
    import hydra

    from kd_cli.cli.job import Job, fixed
    from kd_cli.cli.messages import is_hydras, translate
    from kd_cli.cli.refusals import refused
    from kd_cli.cli.spelling import gathered, placed
    from kd_cli.cli.typed import Words
    from kd_cli.runs.session import Session, opened

    session = Session()
    task = Job(session)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, so that errors are translated once, here
    words = gathered(name, words)
    typed = words
    if refusal := refused(name, typed):
        say(refusal)
        return 1
    line = Words(name, tuple(words))
    overrides, flags, _ = line.parts
    overrides = placed(name, [new for word in overrides for new in line.spelt(word)])
    words = [*overrides, *flags]  # Hydra refuses them the other way round
    if name == "sweep" or {"--multirun", "-m"} & set(flags):
        session.fixed = fixed(overrides)
        if not {word.partition("=")[0] for word in words} & SHOWS:
            words.append("--multirun")  # said aloud, Hydra names what is wrong with a sweep's config
    sys.argv = ["kd", *words, "--config-name", name]
    status = 0
    try:
        with opened(session), quoting() if SHOWS_ALONE & set(words) or "-sc" in words else nullcontext():
            hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(task)()
        if interruption.Process.struck is not None:  # a launcher's workers have come to rest
            raise KeyboardInterrupt(interruption.Process.struck)
        if session.error is not None:
            raise session.error
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
        if session.error is not None:
            say(str(session.error))
    except KeyboardInterrupt as stop:
        status = _interrupted(stop)
    except BrokenPipeError:  # `kd … | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except Exception as error:
        status = 1
        if interruption.Process.struck is not None:  # of a launcher whose workers were told to end
            status = _interrupted(KeyboardInterrupt(interruption.Process.struck))
        elif os.environ.get("KD_TRACEBACK"):
            say(traceback.format_exc().rstrip())
        elif isinstance(error, KdError):
            say(re.sub(r"\n(?! )", "\n  ", str(error)))  # no line of it looks like another message
        elif is_hydras(error):
            say(translate(error, name, typed))
        elif isinstance(error, OSError):
            say(_of_disk(error))
        else:
            say(traceback.format_exc().rstrip())
    session.share(False)  # also of a sweep that broke off
    with session.turn:
        return status if session.folder is None else _close_sweep(session.folder, status)


def _of_disk(error: OSError) -> str:
    """What to tell of an error outside a job: Hydra makes a run's folder itself."""
    from kd_cli.files.disk import refusal

    modules = {frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)}
    if any(name == "hydra.core.utils" or "_launcher" in name or "_sweeper" in name for name in modules):
        return str(refusal(Path.cwd(), error))
    return f"{error.filename or 'A file'} cannot be used: {reason(error)}."


def _close_sweep(folder: Path, status: int) -> int:
    from kd_cli.report.sweep import summarize
    from kd_cli.store.run_folder import discard

    if not any(folder.glob("*/result.json")):  # refused before the first job
        discard(folder, folder.parent.parent)
        return status or 1
    try:
        all_completed = summarize(folder)
    except KdError as error:
        say(str(error))
        return status or 1
    answer_path(folder.absolute())
    if status - 128 in interruption.SIGNALS:
        say("Interrupted: the same command runs the jobs that are missing or did not complete.")
    return status or (0 if all_completed else 1)


def _complete(rest: list[str]) -> int:
    """Answers the shell: the commands for the first word, Hydra's groups and keys after it."""
    line = os.environ.get("COMP_LINE", "")
    program, _, after = line.partition(" ")
    command, space, arguments = after.lstrip().partition(" ")
    if not space:
        answer(" ".join(name for name in [*commands(), "completion"] if name.startswith(command)))
        return 0
    if command not in commands():
        return 0
    os.environ["COMP_LINE"] = f"{program} {arguments}"
    return _hydra(command.replace("-", "_"), ["-sc", *rest])


def _interrupted(stop: KeyboardInterrupt) -> int:
    say(
        "Interrupted. Finished teachers, soft targets and students are kept, and what was written down of an "
        "unfinished one: the same command goes on from there."
    )
    return 128 + (stop.args[0] if stop.args else signal.SIGINT)
