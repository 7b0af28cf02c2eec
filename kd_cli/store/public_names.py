"""What public implementations call the layers of the CIFAR networks that kd has too: where their weights belong here.

| networks | implementations | head |
|---|---|---|
| ResNet-8 … 110 | akamaster/pytorch_resnet_cifar10 | `linear` |
| | chenyaofo/pytorch-cifar-models, Yerlan Idelbayev's forks | `fc` |
| | RepDistiller (`resnet8x4`, `resnet32x4`, `resnet56`, …) and what builds on it (DKD, mdistiller) | `fc` |
| WRN-d-k | xternalz/WideResNet-pytorch, RepDistiller (`wrn_40_2`, …) | `fc` |

All of them write `conv1 bn1 layer1.0.conv1 …` or `conv1 block1.layer.0.bn1 …`; kd numbers its layers. A shortcut is
`downsample` or `shortcut` there, of a WRN `convShortcut`. akamaster's shortcut has no weights: it takes every other
pixel and puts zeros beside the channels ("option A"), which is a convolution whose weights are 0 and 1.
kuangliu/pytorch-cifar's `ResNet18` is wider and has four stages: it is none of kd's, its names for three stages are.
"""

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

STAGE = re.compile(r"(?:layer|block|stage)(\d)(?:\.layer)?\.(\d+)\.(.+)")
INNER = {"downsample": "shortcut", "shortcut": "shortcut", "convShortcut": "project", "conv_shortcut": "project"}
HEADS = ("fc", "linear", "classifier", "output")


def as_ours(theirs: Collection[str], ours: Collection[str]) -> dict[str, str]:
    """Return kd's name for each of `theirs` that is one of such a network, where `ours` are those of kd's ResNet or
    WRN; nothing for other networks.
    """
    blocks = sorted({int(name.split(".")[0]) for name in ours if re.fullmatch(r"\d+\.conv1\.weight", name)})
    head = max((int(name.split(".")[0]) for name in ours if re.match(r"\d+\.", name)), default=0)
    stem = min((int(name.split(".")[0]) for name in ours if re.fullmatch(r"\d+\.weight", name)), default=0)
    if not blocks or not head:
        return {}
    wide = any(".project." in name for name in ours) or f"{stem + 1}.running_mean" not in ours
    first = {"conv1": stem, "bn1": blocks[-1] + 1 if wide else stem + 1}
    each = len(blocks) // 3  # blocks of a stage
    number = {(stage, k): blocks[(stage - 1) * each + k] for stage in (1, 2, 3) for k in range(each)}
    found: dict[str, str] = {}
    for name in theirs:
        layer, _, leaf = name.rpartition(".")
        if layer in first:
            found[name] = f"{first[layer]}.{leaf}"
        elif layer in HEADS:
            found[name] = f"{head}.{leaf}"
        elif (match := STAGE.fullmatch(name)) and (int(match[1]), int(match[2])) in number:
            part, _, rest = match[3].partition(".")
            found[name] = f"{number[int(match[1]), int(match[2])]}.{INNER.get(part, part)}.{rest}"
    return found if set(found.values()) & set(ours) else {}


def without_projections(missing: list[str], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what shortcuts of option A are in a network that has projections, where they are all that is missing:
    one pixel of four, its channels amid zeros, and a batch norm that changes nothing in eval mode.
    """
    if not missing or not all(re.fullmatch(r"\d+\.shortcut\.[01]\.\w+", name) for name in missing):
        return {}
    found = {}
    for name in missing:
        block, _, leaf = name.partition(".shortcut.")
        made = torch.zeros(ours[name].shape)
        if leaf == "0.weight":
            outputs, inputs = made.shape[:2]
            if outputs != 2 * inputs:
                return {}
            made[range(inputs // 2, inputs // 2 + inputs), range(inputs), 0, 0] = 1
        elif leaf == "1.weight":
            made += (1 + torch.nn.BatchNorm2d(1).eps) ** 0.5
        elif leaf == "1.running_var":
            made += 1
        found[f"{block}.shortcut.{leaf}"] = made
    return found
