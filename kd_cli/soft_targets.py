"""A teacher's logits over a transfer set, on disk: dumped once, read by every student.

Logits are stored, never probabilities: max-centred and in float16, so that one dump serves every temperature (float16
probabilities of a confident teacher are mostly zeros). `logits-<view>.safetensors` holds `[N, classes]`;
`samples.safetensors` names each row's sample and the checksum of its stored bytes, against which the join is checked.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kd_cli.artifacts import Artifact, whole
from kd_cli.errors import ArtifactError, must
from kd_cli.types import Split

DTYPES = {"float16": torch.float16, "float32": torch.float32}
JOIN_PROBES = 256
JOIN_TOLERANCE = 0.05  # of the logits' size: far above float16 and kernels, far below another image's logits


def check_room(folder: Path, samples: int, views: int, classes: int, dtype: str) -> None:
    """ConfigError with the figures where `views` views would not fit on the disk that holds `folder`."""
    needed = samples * views * classes * DTYPES[dtype].itemsize
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > 0.9 * free:
        fitting = int(0.9 * free * views / needed)
        raise must(
            "transfer.views",
            f"at most {fitting} here",
            views,
            f"{views} views × {samples:,} samples × {classes} classes need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB "
            "are free. Lower it, or run the teacher in each step with teacher.online=true.",
        )


def write_targets(
    folder: Path, rows_of_view: Callable[[int], Iterable[Tensor]], split: Split, views: int, dtype: str
) -> None:
    """Writes the logits of each view, one file a view, and the samples they belong to.

    `rows_of_view` gives a view's float32 logits `[n, classes]` in blocks; a view that is there is not asked for again.
    """
    for view in range(views):
        shard = folder / f"logits-{view:05d}.safetensors"
        if shard.exists():
            continue
        rows = torch.cat([_stored(block, DTYPES[dtype]) for block in rows_of_view(view)])
        with whole(shard) as working:
            save_file({"logits": rows}, working)
    samples = {"index": split.index, "crc32": split.images.checksums()}
    save_file({name: value.contiguous() for name, value in samples.items()}, folder / "samples.safetensors")


def _stored(logits: Tensor, dtype: torch.dtype) -> Tensor:
    centred = logits - logits.max(1, keepdim=True).values
    return centred.clamp(min=torch.finfo(dtype).min).to(dtype)


class SoftTargets:
    """Stored logits, joined to the transfer set by sample. Called for the rows of a batch."""

    def __init__(self, artifact: Artifact, split: Split, device: torch.device) -> None:
        folder = artifact.folder
        shards = sorted(folder / name for name in artifact.manifest["files"] if name.startswith("logits-"))
        self.views = [load_file(shard)["logits"].to(device) for shard in shards]
        samples = load_file(folder / "samples.safetensors")
        if not torch.equal(samples["index"], split.index) or not torch.equal(
            samples["crc32"], split.images.checksums()
        ):
            raise ArtifactError(f"{folder} holds the logits of other samples than the transfer set. Remove it.")

    def __call__(self, positions: Tensor, view: int, images: Tensor) -> Tensor:
        """Float32 logits `[n, classes]` of these positions of the transfer set in this view."""
        logits: Tensor = self.views[view]
        return logits[positions.to(logits.device)].float()

    def check(self, recompute: Callable[[int, Tensor], Tensor], name: Path) -> None:
        """Compares `JOIN_PROBES` (sample, view) pairs with what the teacher says now; ArtifactError on a mismatch."""
        samples, views = len(self.views[0]), len(self.views)
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(samples * views, generator=generator)[:JOIN_PROBES].sort().values
        for view in (chosen // samples).unique().tolist():
            positions = chosen[chosen // samples == view] % samples
            now = recompute(view, positions)
            now = now - now.max(1, keepdim=True).values
            stored = self(positions, view, now).cpu()
            if not ((now - stored).norm(dim=1) <= JOIN_TOLERANCE * now.norm(dim=1) + 0.01).all():  # NaN too
                raise ArtifactError(f"{name} is not what this teacher says of the transfer set. Remove it.")
