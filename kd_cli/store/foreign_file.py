"""Weights in a file from elsewhere: safetensors, or what `torch.save` wrote. Nothing in the file is run."""

import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from kd_cli.errors import ArtifactError, Phrase
from kd_cli.files.memory import little_more
from kd_cli.progress import log
from kd_cli.store.tensor_header import header_of
from kd_cli.store.unreadable import why

# Where training scripts keep a network's weights, the likeliest first.
ENTRIES = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params",
    "model_ema", "state_dict_ema", "ema_state_dict", "ema",
)  # fmt: skip
TIMES, SLACK = 4, 1 << 29  # of a file's own bytes, and beside them: what reading it may take of memory
RULE = "a checkpoint that holds tensors alone (.safetensors, or .pt that loads with weights_only=True)"
PLAIN = (int, float, str, bool, type(None))


def read_weights(path: Path, key: str = ".path", part: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a file, by name: those of the first of ENTRIES that it has, or of `part`, an entry or what
    the names of one network among several begin with. Raises ArtifactError in the name of `key`.
    """
    if not path.is_file():
        got = Phrase(f"{str(path)!r}, {'a folder and no file' if path.is_dir() else 'no file'}")
        raise ArtifactError.must(key, "a checkpoint (.safetensors, .pt, .pth, .ckpt or .pth.tar)", got)
    try:
        with little_more(TIMES * path.stat().st_size + SLACK):
            content: Any = _read(path)
    except Exception as error:  # the unpickler raises whatever the bytes lead it to
        found, remedy = why(path, error, ENTRIES)
        raise ArtifactError.must(key, RULE, Phrase(f"{str(path)!r}, {found}"), remedy) from error
    inside, part = _inside(content, path, part)
    state = _tensors(inside) if isinstance(inside, Mapping) else {}
    if not state:
        got = Phrase(f"another format in {str(path)!r}{_holds(content)}")
        raise ArtifactError.must(key, "a state dict (names and tensors)", got)
    if part is None:
        return state
    before = f"{part.rstrip('.')}."
    if not any(name.startswith(before) for name in state):
        there = sorted({name.partition(".")[0] for name in state})
        got = Phrase(f"{part!r}; {path} holds {', '.join(there[:20])}{', …' if len(there) > 20 else ''}")
        raise ArtifactError.must(".part", "an entry of the file, or what names in it begin with", got)
    return {name.removeprefix(before): value for name, value in state.items() if name.startswith(before)}


def _read(path: Path) -> Any:
    """What a file holds; ValueError where a zip claims to hold more than its bytes, which torch writes as they are."""
    if is_safetensors(path):
        header_of(path)
        return load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            if sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
                raise ValueError("it unpacks to more than it is")
    elif _is_tar(path):  # torch would extract what wrote it in 2016
        raise ValueError("it is an archive")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch recommends weights_only=False, which would run the file's code
        return torch.load(path, map_location="cpu", weights_only=True)


def is_safetensors(path: Path) -> bool:
    """Return whether a file is one by its name, or by its first bytes: the length of a header that is JSON."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size


def _is_tar(path: Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except tarfile.TarError:
        return False
    return True


def _inside(content: Any, path: Path, part: str | None) -> tuple[Any, str | None]:
    """The mapping of tensors in what a file holds, through the entries that training scripts wrap it in, and `part`
    unless it was one of these.
    """
    while isinstance(content, Mapping):
        entries = [name for name, value in content.items() if isinstance(value, Mapping) and _tensors_below(value)]
        if part in entries:
            content, part = content[part], None
            continue
        if _tensors(content):
            break
        usual = [name for name in ENTRIES if name in entries] or (entries if len(entries) == 1 else [])
        if not usual:
            break
        if others := [name for name in entries if name != usual[0]]:
            log.info("%s: its entry %s is taken; it also holds %s", path, usual[0], ", ".join(map(str, others)))
        content = content[usual[0]]
    return content, part


def _tensors_below(value: Any) -> bool:
    """Whether a mapping is weights, or holds a mapping that is; an optimizer's state counts its tensors by numbers."""
    if not isinstance(value, Mapping) or "param_groups" in value:
        return False
    return bool(_tensors(value)) or any(name in ENTRIES and _tensors_below(each) for name, each in value.items())


def _tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict by name, without the plain values that may lie beside them; none where there is
    anything else.
    """
    found = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    others = (value for name, value in state.items() if name not in found)
    plain = all(isinstance(value, PLAIN) for value in others) and all(map(_is_plain, found.values()))
    return found if plain and all(isinstance(name, str) for name in found) else {}


def _is_plain(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_quantized or value.is_meta)


def _holds(content: Any) -> str:
    if isinstance(content, Mapping):
        names = [str(name)[:40] for name in list(content)[:8]]
        return f", which holds {', '.join(names)}{', …' if len(content) > 8 else ''}" if names else ", an empty mapping"
    return ""
