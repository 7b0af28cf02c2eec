"""Any classifier of the Hugging Face library transformers, from a folder or from the hub, with what it was published
with: its architecture, its weights, the names of its classes, and how its inputs are to be made.

Weights are read as safetensors alone, and no code of a model is run. An image model's inputs are done here; those of
another kind of sample are a file of their own, and an entry of `SHOWN`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd_cli.data.spec import Spec
from kd_cli.errors import DataError, Phrase, first_line, must
from kd_cli.extras import library
from kd_cli.models import layers
from kd_cli.models.fitted import Fitted
from kd_cli.models.hf_audio import OfSounds
from kd_cli.models.hf_texts import behind_tokenizer, inputs_of_texts, read_by_its_own
from kd_cli.models.hub import CONFIG, digest_of_weights, published, read_json
from kd_cli.models.normalise import Normalise
from kd_cli.models.tokens import Reads
from kd_cli.progress import log

Mapped = dict[str, Any]
AUTO = {  # the class of transformers that builds a classifier for each kind of samples
    "image": "AutoModelForImageClassification",
    "text": "AutoModelForSequenceClassification",
    "audio": "AutoModelForAudioClassification",
}
PROCESSOR = "preprocessor_config.json"
NOT_STRUCTURE = ("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version")
RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # of Pillow; Lanczos and the like: the nearest to them


def hf(
    num_classes: int | None,
    spec: Spec,
    name: str | None = None,
    weights: Any = True,
    config: Mapped | None = None,
    inputs: Mapped | None = None,
    every: int = 1,
    fetch: bool = True,
) -> nn.Module:
    """Return logits `[N, num_classes]` of the model in the folder, or of the hub, that is called `name`.

    With `weights` true training begins with the published ones, and the last layer is new unless it already has
    `num_classes` outputs; `num_classes` None is the model as it was published. `config` and `inputs` change what its
    files say; of its layers the first and each `every`-th after it are kept. With `fetch` false those are all that is
    known: the same network, its weights still to come.
    """
    transformers = library("transformers", "hf", "a model of the Hugging Face library")
    if spec.kind not in SHOWN:
        kinds = ", ".join(sorted(SHOWN))
        raise must(".model", f"a network for {spec}", Phrase(f"one of transformers, which are for: {kinds}"))
    if not isinstance(weights, bool) and fetch:
        raise must(".model.weights", "true (begin with the published ones) or false (from scratch)", weights)
    folder = published(name) if fetch else None
    if folder is not None:
        if spec.kind == "image" and weights and not (inputs or (folder / PROCESSOR).is_file()):
            got, hint = Phrase(f"{name!r} without it"), "Or say it: '{}={size: [224,224], mean: [0.5], std: [0.5]}'."
            rule = f"a folder that holds {PROCESSOR}, which says how images are shown"
            raise DataError.must(".model.name", rule, got, hint, ".model.inputs")
        config, inputs = {**structure_of(folder), **(config or {})}, {**inputs_of(folder), **(inputs or {})}
    about = _configured(transformers, config or {}, num_classes)
    auto = getattr(transformers, AUTO[spec.kind])
    with _refused_as(name or about.model_type), _quiet():
        if folder is not None and weights:
            network = _loaded(auto, folder, about, num_classes is None)
        else:
            network = auto.from_config(about, dtype=torch.float32)
    layers.every(network, every)
    shown: nn.Module = SHOWN[spec.kind](network, inputs or {}, spec)
    if folder is not None and isinstance(shown, Reads):
        read_by_its_own(shown, folder)
    shown.classes = classes_of(about)  # type: ignore[assignment]  # torch takes every attribute for a tensor or a module
    return shown


def resolved(node: Mapped) -> Mapped:
    """Return the config of a model with what lies in its folder in place of the folder's name: what determines it, and
    what builds it again where the folder is gone.
    """
    folder = published(node.get("name"))
    kept = {key: value for key, value in node.items() if key not in ("name", "config", "inputs", "weights")}
    return {
        **kept,
        "config": {**structure_of(folder), **(node.get("config") or {})},
        "inputs": {**inputs_of(folder), **(node.get("inputs") or {})},
        "weights": digest_of_weights(folder) if node.get("weights", True) else False,
        "fetch": False,
    }


def structure_of(folder: Path) -> Mapped:
    """Return what a model's `config.json` says of it, without what says how it was stored."""
    about = read_json(folder, CONFIG)
    return {key: each for key, each in about.items() if not key.startswith("_") and key not in NOT_STRUCTURE}


def inputs_of(folder: Path) -> Mapped:
    """Return how the inputs of the model in a folder are made, in plain values: of images their `size` (height and
    width), `mean` and `std` in units of their range, and `interpolation`; of texts their `tokenizer`, and the `longest`
    in tokens; of sounds what the file says. Empty where no file says it.
    """
    if not (folder / PROCESSOR).is_file():
        return inputs_of_texts(folder)
    if "sampling_rate" in (about := read_json(folder, PROCESSOR)):  # of sounds
        return about
    transformers = library("transformers", "hf", "a model of the Hugging Face library")
    with _refused_as(str(folder)), _quiet():
        processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    scale = 255 * (processor.rescale_factor if getattr(processor, "do_rescale", True) else 1)
    offset = 1 if getattr(processor, "rescale_offset", False) else 0
    normalised = getattr(processor, "do_normalize", True)
    mean = list(processor.image_mean) if normalised else [0.0]
    std = list(processor.image_std) if normalised else [1.0]
    made: Mapped = {
        "mean": [round((each + offset) / scale, 9) for each in mean],
        "std": [round(each / scale, 9) for each in std],
        "interpolation": RESAMPLING.get(int(processor.resample or 2), "bicubic"),
    }
    return {"size": _size(processor), **made}


def classes_of(about: Any) -> tuple[str, ...] | None:
    """Return the names of a model's outputs in their order; None where it has the ones that transformers makes up."""
    names = [str(about.id2label[k]) for k in sorted(about.id2label, key=int)]
    made_up = all(name == f"LABEL_{k}" for k, name in enumerate(names))
    return None if made_up else tuple(names)


def _size(processor: Any) -> list[int] | None:
    """Height and width of what the network is shown, None where it is shown images as they are."""
    for wanted, key in (("do_center_crop", "crop_size"), ("do_resize", "size")):
        size = getattr(processor, key, None)
        if getattr(processor, wanted, False) and size:
            about = dict(size)
            height = about.get("height") or about.get("shortest_edge")
            return [int(height), int(about.get("width") or height)] if height else None
    return None


def _images(network: nn.Module, inputs: Mapped, spec: Spec) -> nn.Module:
    channels = int(getattr(network.config, "num_channels", 3))
    normalise = Normalise(inputs.get("mean", (0.0,)), inputs.get("std", (1.0,)), channels)
    size, interpolation = inputs.get("size"), inputs.get("interpolation", "bilinear")
    return Fitted(network, normalise, size, interpolation, channels=channels)


# The network behind its inputs, for each kind of samples: a module that gives logits and has room for `classes`.
SHOWN: Mapping[str, Callable[[nn.Module, Mapped, Spec], Any]] = {
    "image": _images,
    "text": behind_tokenizer,
    "audio": OfSounds,
}


def _configured(transformers: Any, config: Mapped, num_classes: int | None) -> Any:
    values = {key: each for key, each in config.items() if key != "model_type" and not str(key).startswith("_")}
    try:
        about = transformers.AutoConfig.for_model(config.get("model_type"), **values)
    except Exception as error:  # each architecture checks its own
        got = Phrase(f"an error: {first_line(error)[:300]}")
        raise DataError.must(".model.config", "one that transformers can build", got) from error
    if num_classes is not None and about.num_labels != num_classes:
        about.num_labels = num_classes
    return about


def _loaded(auto: Any, folder: Path, about: Any, as_published: bool) -> Any:
    """The network with the published weights; DataError where it is to be as published, and some are not there."""
    network, info = auto.from_pretrained(
        folder,
        config=about,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=not as_published,
        output_loading_info=True,
    )
    new = sorted({*info["missing_keys"], *(each[0] for each in info["mismatched_keys"])})
    if new and as_published:
        got = Phrase(f"{str(folder)!r}, which lacks {_some(new)}")
        hint = (
            "It has no classifier of its own: train it further, with teacher=tuned teacher.model=hf, or as a student."
        )
        raise DataError.must(".model.name", "a model with the weights of a classifier", got, hint)
    if new:
        log.info("%s: begins with its published weights, but for a new %s", folder.name, _some(new))
    return network


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


@contextmanager
def _refused_as(name: str) -> Iterator[None]:
    """Within it, what transformers raises is a DataError about the model `name`."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # each architecture, each kind of file has its own
        got = Phrase(f"{name!r}: {first_line(error)[:300]}")
        raise DataError.must(".model.name", "a model that transformers can read", got) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it, transformers does not print its own reports and bars: what matters is said by kd."""
    theirs: Any = library("transformers.utils.logging", "hf", "a model of the Hugging Face library")
    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
