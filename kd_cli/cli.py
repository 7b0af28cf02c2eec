"""`kd <command> [key=value …]`: a command is a primary config, run through the one Hydra entry point.

Never imports torch: help, completion and a config error must be there at once.
"""

import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from kd_cli import __version__
from kd_cli.errors import KdError, did_you_mean

PACKAGED = Path(__file__).parent / "configs"
CONFIGS = PACKAGED if PACKAGED.is_dir() else PACKAGED.parent.parent / "configs"
TAKES_VALUE = {"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p", "--cfg", "-c"}
HYDRAS_VALUE_ERRORS = ("Config group override", "Only one of --run", "The --resolve flag")
SHOWS = {"--multirun", "-m", "--cfg", "-c", "--info", "-i", "--help", "-h", "--hydra-help"}
SHELLS = ("bash", "zsh", "fish")
CHOSEN = {"teacher.member": "teacher", "teacher.generalist": "teacher", "transfer.dataset": "dataset"}  # by their group


def main() -> None:
    """Entry point of the `kd` command. A signal to end it is taken as Ctrl-C is; Slurm gives SIGUSR1 as a warning."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _interrupt)
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt as stop:
        sys.exit(_interrupted(stop))


def run(words: list[str]) -> int:
    """Runs one command line; returns the exit status."""
    command, *rest = words or ["--help"]
    if command in ("--help", "-h", "help"):
        print(usage())
        return 0
    if command == "--version":
        print(f"kd {__version__}")
        return 0
    if command == "completion":
        if len(rest) != 1 or rest[0] not in SHELLS:
            _say(f"kd completion must be given one of {', '.join(SHELLS)}, got {' '.join(rest) or 'nothing'}.")
            return 2
        return _hydra("distill", ["-sc", f"install={rest[0]}"])
    if command in ("-sc", "--shell-completion"):
        return _complete(rest)
    if command not in commands():
        hint = did_you_mean(command, list(commands()))
        _say(f"The command must be one of {', '.join(commands())}, got {command!r}. {hint or 'See kd --help.'}")
        return 2
    return _hydra(command.replace("-", "_"), rest)


def commands() -> dict[str, str]:
    """Every command with its help, the first line of its YAML."""
    found = {}
    for path in sorted(CONFIGS.glob("*.yaml")):
        with path.open() as file:
            found[path.stem.replace("_", "-")] = file.readline().removeprefix("#").strip()
    return found


def usage() -> str:
    """What `kd --help` prints."""
    known = commands()
    width = max(map(len, known))
    return "\n".join(
        [
            "kd: knowledge distillation from the command line",
            "",
            "  kd <command> [key=value …]",
            "",
            *(f"  {name:<{width}}  {text}" for name, text in known.items()),
            "",
            "  kd distill dataset=mnist teacher=mlp_1200 student=mlp_800 temperature=20",
            "  kd <command> --help       the keys and choices of a command",
            "  kd <command> --cfg job    the config as it would run",
            '  eval "$(kd completion bash)"',
        ]
    )


def _hydra(name: str, words: list[str]) -> int:
    """Runs Hydra's entry point with `configs/<name>.yaml`; every error becomes one message and a status here."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from kd_cli.messages import translate
    from kd_cli.stages import job

    job.Outcome.error, job.Sweep.folder = None, None
    sys.path.append(os.getcwd())  # a console script lacks it, and a person's own my_models.py can be a _target_
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, so that errors are translated once, here
    typed = [word for word in words if _is_override(word)]
    words = _ordered([new for word in words for new in _spelt(word)])
    if name == "evaluate" and not any(word.startswith("dataset=") for word in words):
        words = [f"+{word}" if word.startswith("dataset.") else word for word in words]  # of the stored data set
    overrides = [word for word in words if _is_override(word)]
    if nameless := [word for word in overrides if not word.lstrip("+~").partition("=")[0].strip()]:
        _say(f"An argument must be key=value, got {nameless[0]!r}.")
        return 2
    if {"--multirun", "-m"} & set(words) and name in job.ANSWERS:
        _say(f"kd {name} answers one question at a time: leave out --multirun.")
        return 2
    if name == "sweep" or {"--multirun", "-m"} & set(words):
        job.fix(overrides)
        if not {word.partition("=")[0] for word in words} & SHOWS:
            words.append("--multirun")  # said aloud, Hydra names what is wrong with a sweep's config
    sys.argv = ["kd", *words, "--config-name", name]
    status = 0
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(job.task)()
        if job.Outcome.error is not None:
            raise job.Outcome.error
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
        if job.Outcome.error is not None:
            _say(str(job.Outcome.error))
    except KeyboardInterrupt as stop:
        status = _interrupted(stop)
    except BrokenPipeError:  # `kd … | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except Exception as error:
        status = 1
        if os.environ.get("KD_TRACEBACK"):
            traceback.print_exc()
        elif isinstance(error, KdError):
            _say(str(error))
        elif isinstance(error, HydraException | OmegaConfBaseException) or str(error).startswith(HYDRAS_VALUE_ERRORS):
            _say(translate(error, name, typed, CONFIGS))
        elif isinstance(error, OSError):
            _say(f"output_dir must be a folder that can be written and has room, got an error: {error}.")
        else:
            traceback.print_exc()
    job.Sweep.shared = None  # also of a sweep that broke off
    with job.Sweep.turn:
        return status if job.Sweep.folder is None else _close_sweep(job.Sweep.folder, status)


def _close_sweep(folder: Path, status: int) -> int:
    from kd_cli.run_folder import forget
    from kd_cli.stages.sweep import summarize

    if not any(folder.glob("*/result.json")):  # refused before the first job
        forget(folder, folder.parent.parent)
        return status or 1
    try:
        all_completed = summarize(folder)
    except KdError as error:
        _say(str(error))
        return status or 1
    print(folder.absolute())
    if status == 130:
        _say("Interrupted: the same command runs the jobs that are missing or did not complete.")
    return status or (0 if all_completed else 1)


def _spelt(word: str) -> list[str]:
    """`teacher.member=mlp_1200` and `teacher.members=[cnn,outputs/teachers/<id>]` as Hydra has them: it would take what
    stands for a file of configs/ as a string. A word with a `/` is a folder.
    """
    key, _, value = word.partition("=")
    if key in CHOSEN and re.fullmatch(r"[\w,-]+", value) and value != "null":
        return [f"{CHOSEN[key]}@{word}"]
    found = re.fullmatch(r"teacher\.members=\[(.+)\]", word)
    names = [name.strip().strip("'\"") for name in found.group(1).split(",")] if found else []
    if not names or not all(re.fullmatch(r"[^][{}'\"]+", name) for name in names):
        return [word]
    new = []
    for k, name in enumerate(names):
        place = f"teacher.members.{k}"
        new += [f"+teacher@{place}=artifact", f"{place}.path='{name}'"] if "/" in name else [f"+teacher@{place}={name}"]
    return new


def _is_override(word: str) -> bool:
    return not word.startswith("-") and ("=" in word or word.startswith("~"))


def _ordered(words: list[str]) -> list[str]:
    """Overrides before flags: Hydra refuses them the other way round."""
    overrides: list[str] = []
    flags: list[str] = []
    value_follows = False
    for word in words:
        (flags if value_follows or not _is_override(word) else overrides).append(word)
        value_follows = word in TAKES_VALUE
    return overrides + flags


def _complete(rest: list[str]) -> int:
    """Answers the shell: the commands for the first word, Hydra's groups and keys after it."""
    line = os.environ.get("COMP_LINE", "")
    program, _, after = line.partition(" ")
    command, space, arguments = after.lstrip().partition(" ")
    if not space:
        print(" ".join(name for name in [*commands(), "completion"] if name.startswith(command)))
        return 0
    if command not in commands():
        return 0
    os.environ["COMP_LINE"] = f"{program} {arguments}"
    return _hydra(command.replace("-", "_"), ["-sc", *rest])


def _interrupt(number: int, frame: Any) -> None:
    """Raises what Ctrl-C raises, once: `timeout` and schedulers send their signals twice."""
    for again in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(again, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def _interrupted(stop: KeyboardInterrupt) -> int:
    _say(
        "Interrupted. Finished teachers, soft targets and students are kept, and the checkpoint of an unfinished one: "
        "the same command goes on from there."
    )
    return 128 + (stop.args[0] if stop.args else signal.SIGINT)


def _say(message: str) -> None:
    print(message, file=sys.stderr)
