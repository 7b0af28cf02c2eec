"""Any classification model of torchvision by its name, with or without its pretrained weights."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from kd_cli.errors import DataError, did_you_mean, must
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
    """Logits `[N, num_classes]` of `torchvision.models.<name>`.

    With `weights` (`DEFAULT` or a name of the model's weights) the inputs are resized and normalised as those weights
    want, and the last layer is replaced unless it already has `num_classes` outputs. `size`, `mean` and `std` override
    this; without weights the images keep their size. `num_classes` None is the network as it was published. With
    `fetch` false it is the same network, its weights still to come from elsewhere: nothing is read or downloaded.
    """
    from torchvision import models

    of_images(input_shape)
    known = models.list_models(module=models)
    if name not in known:
        hint = f"{did_you_mean(str(name), known)} Choices: {', '.join(known)}.".lstrip()
        raise must(".model.name", "a classification model of torchvision", name, hint)
    chosen, classes = None, None
    choices: Any = models.get_model_weights(name)
    names = [entry.name for entry in choices]  # without the alias DEFAULT
    if weights is not None:
        if weights not in ("DEFAULT", *names):
            raise must(".model.weights", f"null, DEFAULT or one of {', '.join(names)}", weights)
        chosen = choices[weights] if weights != "DEFAULT" else choices.DEFAULT
    if chosen is not None:
        recipe = chosen.transforms()
        size, mean, std = size or recipe.crop_size[0], mean or recipe.mean, std or recipe.std
        classes = chosen.meta["categories"]
        num_classes = num_classes or len(classes)
    if num_classes is None:
        raise must(".model.weights", f"DEFAULT or one of {', '.join(names)}", weights)
    if chosen is None:
        network = models.get_model(name, weights=None, num_classes=num_classes)
    elif not fetch:
        network = models.get_model(name, weights=None, num_classes=1000, **_implied(name, chosen))
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
