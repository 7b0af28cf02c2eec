"""Any classification model of torchvision by its name, with or without its pretrained weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd_cli.errors import DataError, did_you_mean, must
from kd_cli.files.digests import digests_of
from kd_cli.models.fitted import Fitted
from kd_cli.models.normalise import Normalise, of_images


def torchvision(
    num_classes: int | None,
    input_shape: Sequence[int],
    name: str = "resnet18",
    weights: str | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    fetch: bool = True,
) -> nn.Module:
    """Return logits `[N, num_classes]` of `torchvision.models.<name>`.

    With `weights` (`DEFAULT`, a name of the model's weights, or the file of some) the inputs are resized and normalised
    as those weights want, and the last layer is replaced unless it already has `num_classes` outputs. `size`, `mean`
    and `std` override this; without weights the images keep their size. `num_classes` None is the network as it was
    published. With `fetch` false it is the same network, its weights still to come from elsewhere: nothing is read or
    downloaded.
    """
    from torchvision import models

    of_images(input_shape)
    known = models.list_models(module=models)
    if name not in known:
        hint = f"{did_you_mean(str(name), known)} Choices: {', '.join(known)}.".lstrip()
        raise must(".model.name", "a classification model of torchvision", name, hint)
    chosen = None if weights is None else _chosen(name, weights)
    classes = None
    if chosen is not None:
        recipe = chosen.transforms()
        size, mean, std = size or recipe.crop_size[0], mean or recipe.mean, std or recipe.std
        classes = chosen.meta["categories"]
        num_classes = num_classes or len(classes)
    if num_classes is None:
        raise must(".model.weights", "DEFAULT, the name of published weights, or their file", weights)
    if chosen is None:
        network = models.get_model(name, weights=None, num_classes=num_classes)
    elif not fetch or weights not in ("DEFAULT", chosen.name):  # to be filled later, or from a file
        network = models.get_model(name, weights=None, num_classes=len(classes or ()), **_implied(name, chosen))
        if fetch:
            network.load_state_dict(torch.load(str(weights), map_location="cpu", weights_only=True))
        _replace_heads(network, num_classes)
    else:
        try:
            network = models.get_model(name, weights=chosen)
        except (OSError, RuntimeError) as error:
            hint = f"Put the file from {chosen.url} into {_hub_folder()}, or set {{}}=null."
            raise DataError(
                f"{{}}={weights} of {name} could not be downloaded ({error}).", hint, *[".model.weights"] * 2
            ) from error
        _replace_heads(network, num_classes)
    return Fitted(network, Normalise(mean or (0.0,), std or (1.0,), 3), size, classes=classes)


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a model with the name of its weights in place of their file."""
    if node.get("weights") in (None, "DEFAULT") or not Path(str(node["weights"])).is_file():
        return node
    return {**node, "weights": _chosen(str(node.get("name")), node["weights"]).name}


def _chosen(name: str, weights: Any) -> Any:
    """The published weights of a network that a name stands for, or a file, which torchvision names by its digest."""
    from torchvision import models

    choices: Any = models.get_model_weights(name)
    if weights == "DEFAULT":
        return choices.DEFAULT
    names = {entry.name: entry for entry in choices}  # without the alias DEFAULT
    if weights in names:
        return names[weights]
    files = {str(entry.url).rpartition("/")[2]: entry for entry in choices}
    if not isinstance(weights, str) or not Path(weights).is_file():
        rule = f"null, DEFAULT, one of {', '.join(names)}, or the file of one ({', '.join(files)})"
        raise must(".model.weights", rule, weights)
    digest = digests_of([Path(weights)], "published weights")[Path(weights).name]
    for file, entry in files.items():
        if digest.startswith(Path(file).stem.rpartition("-")[2]):
            return entry
    hint = f"Weights of one's own: {{}}=null, and training begins with {{}}={weights}."
    keys = (".model.weights", ".train.start_from")
    raise must(".model.weights", f"a file as torchvision publishes it ({', '.join(files)})", weights, hint, *keys)


def _implied(name: str, weights: Any) -> dict[str, Any]:
    """The arguments, but for the number of classes, that torchvision changes where published weights are asked for."""
    if name.startswith("vit_"):
        return {"image_size": weights.meta["min_size"][0]}
    changed = {
        "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": False},
        "inception_v3": {"transform_input": True, "init_weights": False},
        "maxvit_t": {"input_size": weights.meta["min_size"]},
    }
    return changed.get(name, {})


def _hub_folder() -> str:
    from torch.hub import get_dir

    return f"{get_dir()}/checkpoints"


def _replace_heads(network: nn.Module, num_classes: int) -> None:
    """Gives each classifier (auxiliary ones too) of a network for ImageNet's 1,000 classes `num_classes` outputs."""
    if num_classes == 1000:
        return
    for name, old in list(network.named_modules()):
        new: nn.Module
        if isinstance(old, nn.Linear) and old.out_features == 1000:
            new = nn.Linear(old.in_features, num_classes)
        elif isinstance(old, nn.Conv2d) and old.out_channels == 1000:
            new = nn.Conv2d(old.in_channels, num_classes, kernel_size=1)
        else:
            continue
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, new)
