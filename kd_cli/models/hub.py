"""Where a published model lies: in a folder, or on the Hugging Face hub, whose copy of it is a folder too."""

import json
import re
from pathlib import Path
from typing import Any

from kd_cli.errors import DataError, KdError, Phrase, first_line
from kd_cli.extras import library
from kd_cli.files.digests import digest_of, digests_of

CONFIG, WEIGHTS = "config.json", "*.safetensors"
TAKEN = ("*.json", WEIGHTS, "*.txt", "*.model")  # of the hub: no pickle, no code, no other framework's weights
NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
SAVES = "model.save_pretrained('<folder>', safe_serialization=True) makes it of a model that was loaded by its library."


def published(name: object, key: str = ".model.name", extra: str = "hf") -> Path:
    """Return the folder of the model that `name` stands for: itself a folder with `config.json`, or fetched from the
    hub, or found in its cache. DataError, by `key`, for what is neither, and where the hub cannot be reached.
    """
    if not isinstance(name, str) or not name:
        raise DataError.must(key, "a folder with config.json, or the name of a model on the Hugging Face hub", name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _looked_at(folder, name, key)
    if folder.exists() or not NAME.fullmatch(name):
        got = Phrase(f"{name!r}, which is no folder")
        raise DataError.must(key, "a folder with config.json and model.safetensors", got)
    hub = library("huggingface_hub", extra, f"{key.rpartition('.')[2]}={name}, the name of a model on the hub,")
    try:
        found = hub.snapshot_download(name, allow_patterns=list(TAKEN), ignore_patterns=["*/*"])
    except Exception as error:  # of the network, of the hub, of its cache: each has its own
        raise _unreachable(name, key, error) from error
    return _looked_at(Path(found), name, key)


def read_json(folder: Path, name: str, key: str = ".model.name") -> dict[str, Any]:
    """Return the mapping in a JSON file of the folder; DataError where it holds none."""
    try:
        content = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        got = Phrase(f"{str(folder / name)!r}: {first_line(error)}")
        raise DataError.must(key, f"a model whose {name} can be read", got) from error
    if not isinstance(content, dict):
        raise DataError.must(key, f"a model whose {name} holds a mapping", type(content).__name__)
    return content


def weights_in(folder: Path, key: str = ".model.name") -> list[Path]:
    """Return the files of the weights, sorted; DataError where there are none, or none that cannot carry code."""
    if found := sorted(folder.glob(WEIGHTS)):
        return found
    other = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    got = Phrase(f"{str(folder)!r} with {', '.join(other) or 'none'}")
    hint = f"A pickle can run code and is not read. {SAVES}" if other else f"Put model.safetensors there. {SAVES}"
    raise DataError.must(key, "a folder with weights in model.safetensors", got, hint)


def digest_of_weights(folder: Path, key: str = ".model.name") -> str:
    """Return the SHA-256 of what the files of the weights hold."""
    return digest_of(list(digests_of(weights_in(folder, key), "published weights").values()))


def _looked_at(folder: Path, name: str, key: str) -> Path:
    if not (folder / CONFIG).is_file():
        got = Phrase(f"{name!r} without it")
        hint = f"It holds the architecture and the names of the classes. {SAVES}"
        raise DataError.must(key, f"a folder that holds {CONFIG}", got, hint)
    return folder


def _unreachable(name: str, key: str, error: Exception) -> KdError:
    kind = type(error).__name__
    if kind in ("RepositoryNotFoundError", "HFValidationError"):
        got = Phrase(f"{name!r}, which is neither a folder here nor a public model there")
        return DataError.must(key, "a folder, or the name of a model on the Hugging Face hub", got)
    why, folder = first_line(error)[:300].rstrip("."), name.rpartition("/")[2]
    return DataError(
        f"{{}}={name} is no folder here, is not in the hub's cache, and could not be fetched ({why}).",
        f"Where there is a network: hf download {name} --local-dir {folder}; then put that folder here, with "
        "config.json, model.safetensors, and preprocessor_config.json or tokenizer.json, and give {}=./" + folder + ".",
        *[key] * 2,
    )
