"""Where somebody else's code failed, or a file or a service that it uses: told as what it is, nothing else blamed."""

import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from kd_cli.errors import ForeignError

# Whoever is called by these has failed, and not they.
BENEATH = {"torch", "torchvision", "hydra", "omegaconf", "numpy", "PIL", "safetensors", *sys.stdlib_module_names}


def told(error: OSError, keys: Mapping[str, str]) -> ForeignError:
    """Return what failed, where and why: `keys` says which modules' objects the config names, and at which
    of its keys.
    """
    frames = [
        (frame.f_globals.get("__name__") or "", frame, line) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    above = [each for each in frames if each[0].partition(".")[0] not in BENEATH]
    theirs = [each for each in above if each[0].partition(".")[0] != "kd_cli"]
    # a loader's worker hands its error on as text, the error itself in the last line
    said = str(error).strip().splitlines()
    text = said[-1] if said and said[0].startswith("Caught ") else f"{type(error).__name__}: {error}".rstrip(": ")
    if not above:
        return ForeignError(f"{text}.")
    module, frame, line = (theirs or above)[-1]
    key = next((key for name, key in keys.items() if name == module), "")
    where = f"{Path(frame.f_code.co_filename).name}, line {line}, in {frame.f_code.co_name}"
    return ForeignError(f"{key or 'The run'} failed: {text} ({where}). KD_TRACEBACK=1 shows the whole way.")
