"""A sound classifier of transformers behind its own feature extractor: it is shown waveforms at the rate that it was
made for.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import Inputs
from kd_cli.data.spec import Spec
from kd_cli.errors import DataError, Phrase, first_line, must
from kd_cli.extras import library

PLAIN = "Wav2Vec2FeatureExtractor"  # of the networks that take waveforms: computed here, where the sounds are
NO_VALUES = ("feature_extractor_type", "processor_class")
TINY = 1e-7  # as it has it


class OfSounds(nn.Module):
    """The network behind its inputs, as its `preprocessor_config.json` says how they are made."""

    classes: tuple[str, ...] | None = None

    def __init__(self, network: nn.Module, inputs: Mapping[str, Any], spec: Spec) -> None:
        super().__init__()
        if spec.kind != "audio" or len(spec.shape) != 1:
            hint = "A data set of sounds is shown as them with dataset.features=waveform."
            raise must(".model", "a network for waveforms", Phrase(f"{spec}"), hint)
        rate = inputs.get("sampling_rate", 16000)
        if rate != spec.sample_rate:
            found, hint = Phrase(f"{spec.sample_rate} with this model"), f"Set dataset.rate={rate}."
            raise must("dataset.rate", f"{rate}, which its sounds were recorded at", found, hint)
        self.network, self.inputs, self.rate = network, dict(inputs), rate
        kind = str(inputs.get("feature_extractor_type", PLAIN))
        self.extractor = None if kind == PLAIN else _extractor(kind, self.inputs)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits `[N, outputs]` of waveforms in [−1, 1]."""
        sound, mask = (inputs, None) if isinstance(inputs, Tensor) else (inputs["sound"], inputs["mask"])
        if self.extractor is None:
            logits: Any = self.network(**self._plain(sound, mask))
        else:
            lengths = [len(sound[0])] * len(sound) if mask is None else mask.sum(1).int().tolist()
            waves = [wave[: max(1, length)].cpu().numpy() for wave, length in zip(sound, lengths, strict=True)]
            made = self.extractor(waves, sampling_rate=self.rate, return_tensors="pt")
            logits = self.network(**{name: each.to(sound.device) for name, each in made.items()})
        return logits if isinstance(logits, Tensor) else logits.logits

    def _plain(self, sound: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """Waveforms of mean 0 and deviation 1 where they are to be: over what is sound, which silence does not change,
        for networks that attend to a mask; for others over all, as they were trained.
        """
        attends = mask is not None and self.inputs.get("return_attention_mask", False)
        there = mask.to(sound.dtype) if attends and mask is not None else torch.ones_like(sound)
        if self.inputs.get("do_normalize", True):
            count = there.sum(1, keepdim=True).clamp(min=1)
            mean = (sound * there).sum(1, keepdim=True) / count
            deviation = ((sound - mean) * there).square().sum(1, keepdim=True) / count
            sound = (sound - mean) * there / (deviation + TINY).sqrt()
        return {"input_values": sound, **({"attention_mask": there.long()} if attends else {})}


def _extractor(kind: str, inputs: Mapping[str, Any]) -> Any:
    transformers: Any = library("transformers", "hf", "a model of the Hugging Face library")
    try:
        if not kind.endswith("FeatureExtractor"):
            raise ValueError(f"{kind} is no feature extractor")
        values = {
            name: each for name, each in inputs.items() if name not in ("feature_extractor_type", "processor_class")
        }
        return getattr(transformers, kind)(**values)
    except Exception as error:  # each checks its own
        got = Phrase(f"an error: {first_line(error)[:300]}")
        raise DataError.must(".model.inputs", "those of a feature extractor of transformers", got) from error
