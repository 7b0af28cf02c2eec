"""Any network of timm: by its name in the library, or from a folder or the hub as timm saves it, with the inputs that
it was published with.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from kd_cli.data.spec import Spec
from kd_cli.errors import DataError, Phrase, did_you_mean, first_line, must
from kd_cli.extras import library
from kd_cli.models.fitted import MODES, Fitted
from kd_cli.models.hub import CONFIG, digest_of_weights, published, read_json, weights_in
from kd_cli.models.normalise import Normalise, of_images

Mapped = dict[str, Any]
SAID = ("num_classes", "in_chans")  # arguments that the data say


def timm(
    num_classes: int | None,
    spec: Spec,
    name: str,
    weights: Any = True,
    size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    args: Mapped | None = None,
    fetch: bool = True,
) -> nn.Module:
    """Return logits `[N, num_classes]` of `timm.create_model(name, **args)`; with `num_classes` None as it was
    published.

    With `weights` true it begins with the published ones, and the last layer is new unless it already has `num_classes`
    outputs. Images are brought to the `size` and shown by the `mean`, `std` and `interpolation` that it was made for,
    unless these say otherwise. With `fetch` false nothing is read or downloaded: the same network, its weights still to
    come.
    """
    of_images(spec.shape)
    if not isinstance(weights, bool) and fetch:
        raise must(".model.weights", "true (begin with the published ones) or false (from scratch)", weights)
    about: Mapped = {"architecture": name, "args": {}, "made_for": {}}
    if fetch:
        about = _published(name, bool(weights))
    made_for: Mapped = about["made_for"]
    given = {**about["args"], **(args or {})}
    if fetch and weights and not about.get("folder"):
        network = _created(name, {**given, "pretrained": True}, None)
    else:
        network = _created(about["architecture"], given, made_for.get("num_classes") or num_classes)
        if fetch and weights:
            _fill(network, about["folder"])
    if num_classes is not None and network.num_classes != num_classes:
        network.reset_classifier(num_classes)
    shown = {"size": size, "mean": mean, "std": std, "interpolation": interpolation}
    its = {**_inputs(made_for), **{key: value for key, value in shown.items() if value is not None}}
    normalise = Normalise(its.get("mean", (0.0,)), its.get("std", (1.0,)), 3)
    return Fitted(network, normalise, its.get("size"), its.get("interpolation", "bilinear"), _classes(made_for))


def resolved(node: Mapped) -> Mapped:
    """Return the config of a model with what its folder, or the library, says of it in place of the folder's name: what
    determines it, and what builds it again where the folder is gone.
    """
    about = _published(node.get("name"), bool(node.get("weights", True)))
    chosen = {key: value for key, value in node.items() if value is not None}
    made = {**_inputs(about["made_for"]), **chosen, "name": about["architecture"]}
    made |= {"args": {**about["args"], **(node.get("args") or {})}}
    if (folder := about.get("folder")) and node.get("weights", True):
        made |= {"weights": digest_of_weights(folder)}
    return {**made, "fetch": False}


def _published(name: Any, weights: bool) -> Mapped:
    """The `architecture` that a name stands for, its `args`, what it is `made_for`, and the `folder` it lies in; for
    its `weights` the library's own are fetched from the hub.
    """
    timm = library("timm", "timm", "a model of timm")
    known = isinstance(name, str) and timm.is_model(name) and timm.get_pretrained_cfg(name)
    if known and weights and known.hf_hub_id and not Path(name).is_dir():
        name = known.hf_hub_id
    if isinstance(name, str) and ("/" in name or Path(name).expanduser().is_dir()):
        folder = published(name.removeprefix("hf-hub:").removeprefix("hf_hub:"), extra="timm")
        about = read_json(folder, CONFIG)
        made_for = {**(about.get("pretrained_cfg") or about)}
        made_for |= {key: about[key] for key in ("num_classes", "label_names") if key in about}
        given = {key: value for key, value in (about.get("model_args") or {}).items() if key not in SAID}
        architecture = about.get("architecture")
        if not isinstance(architecture, str):
            raise DataError.must(".model.name", f"a folder with a {CONFIG} that timm wrote", str(name))
        if made_for.get("fixed_input_size") and made_for.get("input_size"):
            given.setdefault("img_size", list(made_for["input_size"])[1:])
        return {"architecture": architecture, "args": given, "made_for": made_for, "folder": folder}
    if not isinstance(name, str) or not timm.is_model(name):
        every = timm.list_models()
        hint = f"{did_you_mean(str(name).partition('.')[0], every)} `timm.list_models()` has all {len(every)}."
        raise must(".model.name", "a model of timm, or a folder that it saved one in", name, hint.lstrip())
    return {"architecture": name, "args": {}, "made_for": known.to_dict() if known else {}}


def _created(architecture: str, given: Mapped, num_classes: int | None) -> Any:
    timm = library("timm", "timm", "a model of timm")
    classes = {} if num_classes is None else {"num_classes": num_classes}
    try:
        return timm.create_model(architecture, **{**given, **classes})
    except Exception as error:  # of the network, or of an architecture that takes no such arguments
        said = first_line(error)[:300]
        if not given.get("pretrained"):
            got = Phrase(f"{architecture!r}: {said}")
            raise DataError.must(".model.name", "a model that timm can build", got) from error
        raise DataError(
            f"The published weights of {{}}={architecture} could not be fetched ({said}).",
            f"Where there is a network: hf download timm/{architecture} --local-dir {architecture}; then put that "
            "folder here, with config.json and model.safetensors, and give {}=./<that folder>. From scratch: {}=false.",
            ".model.name",
            ".model.name",
            ".model.weights",
        ) from error


def _fill(network: nn.Module, folder: Path) -> None:
    """Loads what the folder holds; DataError unless it is all that the network has."""
    state = {name: value for path in weights_in(folder) for name, value in load_file(path).items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        got = Phrase(f"{str(folder)!r}: {' '.join(str(error).split())[:500]}")
        raise DataError.must(".model.name", f"a folder whose weights fit its {CONFIG}", got) from error


def _inputs(made_for: Mapped) -> Mapped:
    """The keys of this file that say how images are shown, as a pretrained config says it; none where it is empty."""
    if not made_for:
        return {}
    mode = made_for.get("interpolation") or "bicubic"
    return {
        "size": list(made_for.get("input_size") or (3, 224, 224))[1:],
        "mean": list(made_for.get("mean") or (0.485, 0.456, 0.406)),
        "std": list(made_for.get("std") or (0.229, 0.224, 0.225)),
        "interpolation": mode if mode in MODES else "bicubic",
    }


def _classes(made_for: Mapped) -> tuple[str, ...] | None:
    """The names of the outputs: those that were saved with the model, or ImageNet's where it was trained on that."""
    names, count = made_for.get("label_names"), made_for.get("num_classes")
    if isinstance(names, Mapping):  # by the number of the output
        names = [names[key] for key in sorted(names, key=int)]
    if not names and count == 1000 and "in1k" in str(made_for.get("tag")):
        about = library("timm.data", "timm", "a model of timm").ImageNetInfo()
        names = [about.index_to_description(k) for k in range(count)]
    return tuple(map(str, names)) if names and len(names) == count else None
