"""Why a file of weights cannot be read: what it is instead, and what makes it readable."""

import pickletools
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from kd_cli.errors import first_line

AGAIN = "Download it again, and compare its size with what its source states."
STARTS = {  # of files that are often taken for weights
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "Fetch it: git lfs pull."),
    b"\x89HDF": ("a Keras file (HDF5)", "kd reads weights of PyTorch."),
    b"\x1f\x8b": ("compressed by gzip", "Unpack it: gunzip or tar xzf."),
    b"7z\xbc\xaf": ("an archive of 7-Zip", "Unpack it."),
}
JSON = re.compile(rb'\s*[{\[]\s*["{\[]')
PAGE = re.compile(rb"\s*(<!doctype html|<html|<\?xml|<head)", re.IGNORECASE)
# Globals that a pickle of plain values names: no call of theirs does anything but hold data.
HARMLESS = re.compile(
    r"(argparse\.Namespace|types\.SimpleNamespace|collections\.\w+|datetime\.\w+|pathlib\.\w+"
    r"|numpy\.(_core|core)\.multiarray\.(scalar|_reconstruct)|numpy\.(dtype|ndarray|dtypes\.\w+|\w*(float|int|bool)\w*)"
    r"|_codecs\.encode|uuid\.UUID|decimal\.Decimal|fractions\.Fraction)"
)
NETWORK = re.compile(r"torch\.nn\.modules\.\w+\.\w+")
RUNS_CODE = re.compile(
    r"(os|posix|nt|subprocess|sys|shutil|runpy|importlib|socket|pickle|pty|webbrowser|ctypes|asyncio|multiprocessing"
    r"|builtins|__builtin__|io|_io|urllib|http|requests|torch\.hub)(\.|$)"
)
BUILT_IN = re.compile(r"(builtins|__builtin__)\.(set|frozenset|slice|range|object|complex|list|dict|tuple)")
SHOWN = 4  # globals


def why(path: Path, error: Exception, entries: Sequence[str]) -> tuple[str, str]:
    """Return what a file is that could not be read, and the remedy; `entries` are where weights are looked for."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "which is empty (0 bytes)", AGAIN
    if PAGE.match(start):
        return "which is a page of HTML: what a browser shows in place of the file", "Download it by its direct link."
    for magic, (what, remedy) in STARTS.items():
        if start.startswith(magic):
            return f"which is {what}", remedy
    if JSON.match(start):
        return "which is JSON", "Name the file of the weights; one that lists parts (….index.json) is none itself."
    zipped = start.startswith(b"PK\x03\x04")
    if zipped and not zipfile.is_zipfile(path):
        return f"which is cut off after {path.stat().st_size:,} bytes", AGAIN
    names = _zipped(path) if zipped else []
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        return "which is TorchScript: a program with its weights", _lines(
            path, "m = torch.jit.load({path}, map_location='cpu')", "m.state_dict()"
        )
    if zipped and not any(name.endswith("data.pkl") for name in names):
        return "which is a zip archive that torch.save did not write", "Unpack it, and name the file of the weights."
    if found := [name for name in _globals(path, error) if not BUILT_IN.fullmatch(name)]:
        return _of_code(path, found, entries)
    said = _reason(error)
    if re.search(r"EOF|Ran out of input|truncated|incomplete|unexpected pos|exhausted", said):
        return f"which is cut off after {path.stat().st_size:,} bytes ({said})", AGAIN
    return f"which cannot be read: {said}", ""


def _of_code(path: Path, found: list[str], entries: Sequence[str]) -> tuple[str, str]:
    """A pickle of more than tensors. What runs code gets no advice how to run it."""
    listed = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    entry = next((name for name in entries if name in _words(path)), None)
    weights = f"c[{entry!r}]" if entry else "c"
    if all(map(HARMLESS.fullmatch, found)):
        modules = ", ".join(dict.fromkeys(("torch", *(name.rpartition(".")[0] for name in found))))
        opened = (
            f"with torch.serialization.safe_globals([{', '.join(found)}]): "
            "c = torch.load({path}, map_location='cpu', weights_only=True)"
        )
        return f"which also holds {listed}: plain values, but none that torch reads by itself", _lines(
            path, opened, weights, modules
        )
    if any(map(RUNS_CODE.match, found)):
        return f"a pickle that would run code ({listed})", "Take weights that are saved as a state dict."
    if any(map(NETWORK.fullmatch, found)):
        opened = "m = torch.load({path}, map_location='cpu', weights_only=False)  # runs its code: is it to be trusted?"
        network = "m" if entry is None else f"m[{entry!r}]"
        return f"which is a whole pickled network ({listed})", _lines(path, opened, f"{network}.state_dict()")
    own = "Where its code is yours, load it there and save its tensors alone: torch.save(network.state_dict(), …)."
    return f"which also holds objects of {listed}", own


def _lines(path: Path, opened: str, weights: str, modules: str = "torch") -> str:
    made = path.with_name(f"{path.name.split('.')[0] or 'weights'}_weights.pt")
    two = (f"import {modules}; {opened}", f"torch.save({weights}, {str(made)!r})")
    if opened.startswith("with "):
        two = (f"import {modules}\n  {opened}", two[1])
    return f"Two lines of Python make weights of it:\n  {two[0]}\n  {two[1]}".replace("{path}", repr(str(path)))


def _globals(path: Path, error: Exception) -> list[str]:
    """What the pickle in a file names beside what torch takes, sorted; found without running it."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    with suppress(Exception):  # of a file that is no zip, or is damaged
        if found := get_unsafe_globals_in_checkpoint(path):
            return sorted(found)
    named = re.findall(r"GLOBAL ([\w.]+)", str(error))
    with suppress(Exception):
        for name in _named(path.read_bytes()):
            if NETWORK.fullmatch(name) or not name.startswith(("torch.", "collections.OrderedDict")):
                named.append(name)
    return sorted(set(named))


def _named(content: bytes) -> Iterator[str]:
    """The globals of the pickles one after the other in a file that torch wrote before it wrote zips."""
    while content:
        words: list[str] = []
        end = 0
        for code, value, position in pickletools.genops(content):
            end = position or 0
            if code.name == "GLOBAL":
                yield str(value).replace(" ", ".")
            elif code.name == "STACK_GLOBAL" and len(words) > 1:
                yield ".".join(words[-2:])
            elif isinstance(value, str):
                words.append(value)
        content = content[end + 1 :]


def _words(path: Path) -> set[str]:
    """The texts that a zipped pickle holds."""
    with suppress(Exception), zipfile.ZipFile(path) as parts:
        name = next(name for name in parts.namelist() if name.endswith("data.pkl"))
        return {value for _, value, _ in pickletools.genops(parts.read(name)) if isinstance(value, str)}
    return set()


def _zipped(path: Path) -> list[str]:
    with suppress(Exception), zipfile.ZipFile(path) as parts:
        return parts.namelist()
    return []


def _reason(error: Exception) -> str:
    """torch's own reason, without its advice to load the file in a way that runs code."""
    said = str(error).partition("WeightsUnpickler error:")[2].strip() or first_line(error)
    told = re.sub(r".* is no safetensors file that kd can read \((.*)\)\.?", r"\1", first_line(Exception(said)))
    return told[:200].rstrip(". ") if "weights_only" not in told else type(error).__name__
