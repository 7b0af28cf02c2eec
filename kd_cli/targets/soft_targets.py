"""A teacher's logits over a transfer set, on disk: dumped once, read by every student.

Logits are stored, never probabilities: max-centred and in float16, so that one dump serves every temperature (float16
probabilities of a confident teacher are mostly zeros). `logits-<view>.safetensors` holds `[N, classes]`, or what
`top_k` makes of it, which serves stated temperatures only; a row is NaN throughout where the teacher gave no answer;
`samples.safetensors` names each row's sample and the checksum of its stored bytes, against which the join is checked.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.filesize import decimal
from safetensors.torch import save_file
from torch import Tensor

from kd_cli.data.inputs import Inputs
from kd_cli.data.samples import Split
from kd_cli.device import fits
from kd_cli.errors import ArtifactError, ConfigError, must
from kd_cli.files.disk import FULL
from kd_cli.store.artifacts import Artifact, whole_file
from kd_cli.store.tensor_header import header_of
from kd_cli.targets.top_k import compress, rebuild

DTYPES = {"float16": torch.float16, "float32": torch.float32}
OPEN_VIEWS = 8  # mapped at a time: each holds a descriptor, of which a process may have 1,024
JOIN_PROBES = 256
JOIN_TOLERANCE = 0.05  # of the logits' size: far above float16 and kernels, far below another image's logits


@dataclass(frozen=True)
class Storage:
    """How a row is stored: all its logits, or the `top_k` largest with the rest's mass at each of `temperatures`."""

    dtype: str = "float16"
    top_k: int | None = None
    temperatures: tuple[float, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """Return what of it determines the stored bytes."""
        few = {"top_k": self.top_k, "temperatures": list(self.temperatures)}
        return {"dtype": self.dtype} | (few if self.top_k else {})

    def row_bytes(self, classes: int) -> int:
        """Return the bytes of a sample in a view."""
        size = DTYPES[self.dtype].itemsize
        return self.top_k * (size + 4) + 4 * len(self.temperatures) if self.top_k else classes * size

    def pack(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the tensors that are stored of float32 logits `[n, classes]`."""
        dtype = DTYPES[self.dtype]
        if self.top_k:
            return compress(logits, self.top_k, self.temperatures, dtype)
        centred = logits - logits.max(1, keepdim=True).values
        return {"logits": centred.clamp(min=torch.finfo(dtype).min).to(dtype)}


def check_room(folder: Path, samples: int, views: int, classes: int, storage: Storage) -> None:
    """Raise ConfigError with the figures where `views` views would not fit on the disk that holds `folder`."""
    needed = samples * views * storage.row_bytes(classes)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > 0.9 * free:
        fitting = int(0.9 * free * views / needed)
        if fitting == 0:
            raise must("output_dir", "a folder with room", str(folder), FULL)
        raise must(
            "transfer.views",
            f"at most {fitting} here",
            views,
            f"{views} views × {samples:,} samples × {classes} classes need {decimal(needed)}, {decimal(free)} are "
            "free. Lower it, or run the teacher in each step with teacher.online=true.",
        )


def write_targets(
    folder: Path,
    rows_of_view: Callable[[int], Iterable[Tensor]],
    split: Split,
    views: int,
    storage: Storage,
    about: Callable[[str, Path], None] = lambda name, written: None,
) -> None:
    """Write the logits of each view, one file a view, and the samples they belong to.

    `rows_of_view` gives a view's float32 logits `[n, classes]` in blocks; a view that is there is not asked for again.
    `about` is given the name of each file, and where it is written, before it is called so.
    """
    for view in range(views):
        shard = folder / f"logits-{view:05d}.safetensors"
        if shard.exists():
            continue
        blocks = [storage.pack(block) for block in rows_of_view(view)]
        with whole_file(shard) as working:
            save_file({name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}, working)
            about(shard.name, working)
    samples = {"index": split.index, "crc32": split.samples.checksums()}
    with whole_file(folder / "samples.safetensors") as working:
        save_file({name: value.contiguous() for name, value in samples.items()}, working)


class SoftTargets:
    """Stored logits, called for the rows of a batch. `check` says whether they belong to a transfer set.

    They are read from the mapped files, so that a store may be larger than memory; a CUDA device takes them all where
    they fit.
    """

    def __init__(self, artifact: Artifact, device: torch.device, temperature: float | None = None) -> None:
        self.folder, self.device = artifact.folder, device
        self.classes, self.temperatures = _stated(artifact)
        self.untold = bool(artifact.manifest.get("untold"))
        self.temperature = self.temperatures[0] if temperature is None and self.temperatures else temperature
        if self.temperatures and self.temperature not in self.temperatures:
            raise not_stated(self.temperatures, temperature)
        shards = sorted(name for name in artifact.manifest["files"] if name.startswith("logits-"))
        self.joined = _mapped(artifact.file("samples.safetensors"))
        _expect(self.folder, self.joined, {"index": [torch.int64], "crc32": [torch.int64]})
        self.views: _Mapped | list[dict[str, Tensor]] = _Mapped([self.folder / name for name in shards])
        size = 0
        for view in self.views:
            self._check_shapes(view)
            size += sum(tensor.nbytes for tensor in view.values())
        if device.type != "cpu" and fits(device, size):
            self.views = [{name: tensor.to(device) for name, tensor in view.items()} for view in self.views]

    def __call__(self, positions: Tensor, view: int, inputs: Inputs) -> Tensor:
        """Return float32 logits `[n, classes]` of these positions of the transfer set in this view: a row of NaN where
        the teacher gave no answer, which `untold` says.
        """
        rows = self._rows(positions, view)
        if self.temperature is None or "rest" not in rows:
            return rows["logits"].float()
        rest = rows["rest"][:, self.temperatures.index(self.temperature)]
        return rebuild(rows["logits"], rows["classes"], rest, self.temperature, self.classes)

    def _check_shapes(self, view: dict[str, Tensor]) -> None:
        """Raise ArtifactError unless a view has the types and shapes of a dump, and classes that there are."""
        few: dict[str, list[torch.dtype]] = {"classes": [torch.int32], "rest": [torch.float32]}
        _expect(self.folder, view, {"logits": [torch.float16, torch.float32]} | (few if self.temperatures else {}))
        samples, shape = len(self.joined["index"]), view["logits"].shape
        fits = len(shape) == 2 and shape[0] == samples > 0 and shape[1] > 0
        if fits and self.temperatures:
            fits = view["classes"].shape == shape and view["rest"].shape == (samples, len(self.temperatures))
            fits = fits and all(0 <= int(end) < self.classes for end in view["classes"].aminmax())
        if not fits:
            raise ArtifactError(f"{self.folder} holds logits of other shapes than it states.")

    def _rows(self, positions: Tensor, view: int) -> dict[str, Tensor]:
        stored = self.views[view]
        there = positions.to(stored["logits"].device)
        return {name: tensor.index_select(0, there).to(self.device) for name, tensor in stored.items()}

    def check(self, split: Split, recompute: Callable[[int, Tensor], Tensor] | None) -> None:
        """Compare every sample's index and checksum with `split`, and `JOIN_PROBES` (sample, view) pairs with what the
        teacher says now of (view, positions), unless asking it again has its price; ArtifactError on a mismatch.
        """
        joined = self.joined
        if not torch.equal(joined["index"], split.index) or not torch.equal(joined["crc32"], split.samples.checksums()):
            raise ArtifactError(f"{self.folder} holds the logits of other samples than the transfer set.")
        if recompute is None:
            return
        samples, views = len(joined["index"]), len(self.views)
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(samples * views, generator=generator)[:JOIN_PROBES].sort().values
        for view in (chosen // samples).unique().tolist():
            positions = chosen[chosen // samples == view] % samples
            now = recompute(view, positions)
            now = now - now.max(1, keepdim=True).values
            rows = {name: tensor.cpu() for name, tensor in self._rows(positions, view).items()}
            if "classes" in rows:
                now = now.gather(1, rows["classes"].long())
            stored = rows["logits"].float()
            alike = (now - stored).norm(dim=1) <= JOIN_TOLERANCE * now.norm(dim=1) + 0.01  # NaN is like nothing
            if self.untold:
                alike |= now.isnan().all(1) & stored.isnan().all(1)
            if not alike.all():
                raise ArtifactError(f"{self.folder} is not what this teacher says of the transfer set.")


class _Mapped:
    """Views that are mapped when they are asked for, of which the last few stay so."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths, self._open = paths, lru_cache(OPEN_VIEWS)(_mapped)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, view: int) -> dict[str, Tensor]:
        return self._open(self.paths[view])

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return map(self._open, self.paths)


def not_stated(temperatures: Sequence[float], temperature: float | None) -> ConfigError:
    """Refuse a temperature for which nobody stated the rest's mass."""
    stated = ", ".join(f"{each:g}" for each in temperatures)
    rule = f"one of those the stored targets state ({stated})"
    return must("temperature", rule, temperature, "Add it to targets.temperatures.")


def _stated(artifact: Artifact) -> tuple[int, list[float]]:
    """Return the number of classes and the temperatures that a manifest states."""
    classes, temperatures = artifact.manifest.get("classes", 0), artifact.manifest.get("temperatures", [])
    numbers = isinstance(temperatures, list) and all(type(each) in (int, float) and each > 0 for each in temperatures)
    if type(classes) is not int or not numbers:
        raise ArtifactError(f"{artifact.folder} states no number of classes, or no temperatures.")
    return classes, list(temperatures)


def _expect(folder: Path, tensors: dict[str, Tensor], wanted: dict[str, list[torch.dtype]]) -> None:
    found = {name: tensor.dtype for name, tensor in tensors.items()}
    if set(found) != set(wanted) or any(dtype not in wanted[name] for name, dtype in found.items()):
        shown = ", ".join(f"{name} ({dtype})" for name, dtype in list(found.items())[:10])
        raise ArtifactError(f"{folder} must hold {' and '.join(wanted)}, got {shown or 'nothing'}.")


def _mapped(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, mapped read-only: their pages belong to the file, not to the process.

    safetensors' own loader maps them privately and writable, which the kernel counts as the process's data and refuses
    for a file larger than memory.
    """
    known, pages = header_of(path), np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(pages[:8].tobytes(), "little")
    header = json.loads(pages[8:start].tobytes())
    tensors = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have it writable
        for name, (dtype, shape) in known.items():
            first, last = header[name]["data_offsets"]
            tensors[name] = torch.from_numpy(pages[start + first : start + last]).view(dtype).view(shape)
    return tensors
