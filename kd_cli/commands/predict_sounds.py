"""The sounds of `kd predict`: each file heard as the stored model's data set was, and classified."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_cli.data.heard import Frames, Origin, mask_of
from kd_cli.data.hearing import Hearing
from kd_cli.data.inputs import Inputs, each
from kd_cli.data.shades import Unusable
from kd_cli.data.sounds import centred, read_wave, soundfile, whole_sound
from kd_cli.data.spec import Spec
from kd_cli.errors import must
from kd_cli.measure.prediction import evaluation_batch
from kd_cli.screen import shown
from kd_cli.store.models import Loaded


def predict_sounds(
    loaded: Loaded, paths: Sequence[Path], device: torch.device, bad: list[str]
) -> Iterator[dict[str, Any]]:
    """File, class and probability of each sound; of a model of frames the mean of theirs. What cannot be used is added
    to `bad`, with its reason. ConfigError for a model that hears no sounds, or whose classes are not those of sounds.
    """
    soundfile()
    hearing, model = hearing_of(loaded), loaded.model.to(device)
    for path in paths:
        try:
            _, wave = read_wave(path, hearing.rate)
        except Unusable as why:
            bad.append(shown(f"{path}: {why}"))
            continue
        probability, k = _probabilities(model, wave, hearing, loaded.spec, device).max(0)
        yield {"file": str(path), "class": loaded.classes[int(k)], "probability": round(float(probability), 6)}


def hearing_of(loaded: Loaded) -> Hearing:
    """Return how a stored model's sounds were heard."""
    spec, data = loaded.spec, loaded.config.get("dataset")
    if isinstance(data, dict) and data.get("alignments"):
        raise must("path", "a model for sounds", str(loaded.folder), "Its classes are states of frames.")
    if spec.hearing is not None:
        return spec.hearing
    if spec.kind == "audio" and len(spec.shape) == 1 and spec.sample_rate is not None:
        return Hearing(spec.sample_rate, "waveform", spec.shape[0] / spec.sample_rate)
    raise must("path", "a model for sounds", str(loaded.folder), f"It takes {spec}.")


@torch.inference_mode()
def _probabilities(model: torch.nn.Module, wave: Tensor, hearing: Hearing, spec: Spec, device: torch.device) -> Tensor:
    """Those of the classes, `[classes]`."""
    if hearing.context is None:
        heard, length = whole_sound(wave, hearing)
        stored: Inputs = heard[None]
        if spec.parts:
            stored = {"sound": heard[None], "mask": mask_of(torch.tensor([length]), spec.shape)}
        shown_to: Inputs = spec.to_network(each(stored, lambda value: value.to(device)))
        found: Tensor = model(shown_to).float().softmax(1)[0].cpu()
        return found
    spectra = centred(wave, hearing).T.contiguous()
    rows = torch.arange(len(spectra))
    ends = torch.stack([torch.zeros_like(rows), torch.full_like(rows, len(spectra) - 1)])
    frames = Frames(spectra, rows, ends, Origin(("",), torch.zeros_like(rows), rows), hearing)
    batches = frames.stream(rows.split(evaluation_batch(spec)), device)
    return torch.cat([model(spec.to_network(batch)).float().softmax(1).cpu() for batch in batches]).mean(0)
